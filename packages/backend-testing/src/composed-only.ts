import type { Backend } from "@mamba-ts/backend";

/** The same backend without its fused ops: core's compositions run instead. */
export function composedOnly(backend: Backend): Backend {
  return override(backend, { fused: {} });
}

/** A backend with some members replaced; the rest is the original's. */
export function override(backend: Backend, members: Partial<Backend>): Backend {
  return new Proxy(backend, {
    get(target, key) {
      if (Object.hasOwn(members, key)) return members[key as keyof Backend];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
