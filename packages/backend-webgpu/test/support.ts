/** ||got - want|| / ||want||; infinite where one is infinite and the other is not. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    if (got[i] === want[i]) {
      norm += Number.isFinite(want[i]!) ? want[i]! ** 2 : 0;
      continue;
    }
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}

/** The bytes of a file of packages/mamba/test/fixtures, in Node and in a browser that the repository is served to. */
export async function readFixture(name: string): Promise<Uint8Array> {
  const url = new URL(`../../mamba/test/fixtures/${name}`, import.meta.url);
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return readFile(url);
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}
