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
