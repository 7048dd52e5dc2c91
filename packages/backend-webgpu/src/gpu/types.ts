/// <reference types="@webgpu/types" />
/** The WebGPU types live in a package of their own until TypeScript's DOM library has them; everything here names them through this module. */
export type Device = GPUDevice;
export type Adapter = GPUAdapter;
