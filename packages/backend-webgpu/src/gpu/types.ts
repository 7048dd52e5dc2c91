/** The open device and its adapter, by the names that the rest of this package has for them. */
export type Device = GPUDevice;
export type Adapter = GPUAdapter;
