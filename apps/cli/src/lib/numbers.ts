import { InvalidArgumentError } from "@mamba-ts/backend";

/** Parsers for commander: each throws InvalidArgumentError naming the option. */
export function integer(option: string, min = 0): (text: string) => number {
  return (text) => {
    const n = Number(text);
    if (!Number.isSafeInteger(n) || n < min)
      throw new InvalidArgumentError(`${option} is ${text}, not an integer of at least ${min}`);
    return n;
  };
}

export function real(option: string, min: number, max = Number.POSITIVE_INFINITY): (text: string) => number {
  return (text) => {
    const x = Number(text);
    if (text.trim() === "" || !(x >= min && x <= max))
      throw new InvalidArgumentError(`${option} is ${text}, not a number from ${min} to ${max}`);
    return x;
  };
}

export function choice<T extends string>(option: string, among: readonly T[]): (text: string) => T {
  return (text) => {
    if (!(among as readonly string[]).includes(text))
      throw new InvalidArgumentError(`${option} is ${text}, not one of ${among.join(", ")}`);
    return text as T;
  };
}

/** "1,2,3" */
export function tokenList(text: string): number[] {
  const parse = integer("--prompt-tokens");
  return text.split(",").map((part) => parse(part.trim() === "" ? "NaN" : part.trim()));
}
