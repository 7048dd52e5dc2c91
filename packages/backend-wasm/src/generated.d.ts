// What scripts/build-kernels.mjs writes: modules in base64.
declare module "*/generated/simd.js" {
  const base64: string;
  export default base64;
}
declare module "*/generated/threads.js" {
  const base64: string;
  export default base64;
}
declare module "*/generated/relaxed.js" {
  const base64: string;
  export default base64;
}
declare module "*/generated/relaxed-threads.js" {
  const base64: string;
  export default base64;
}
