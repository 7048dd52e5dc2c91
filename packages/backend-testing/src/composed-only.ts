import type { Backend } from "@mamba-ts/backend";

/** The same backend without its fused ops: core's compositions run instead. */
export function composedOnly(backend: Backend): Backend {
  return override(backend, { fused: {} });
}

/** A backend, or an op of one, with some members replaced; the rest is the original's. */
export function override<T extends object>(original: T, members: Partial<T>): T {
  return new Proxy(original, {
    get(target, key) {
      if (Object.hasOwn(members, key)) return members[key as keyof T];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
