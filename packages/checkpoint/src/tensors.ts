import type { DType } from "@mamba-ts/backend";
import { cast, type Tensor } from "@mamba-ts/tensor";
import { toFileDType } from "./file-dtype.js";
import type { TensorToWrite } from "./safetensors.js";

/** A tensor under a name, to be written: read back from its backend when its turn comes, converted to `dtype` if one is named. */
export function tensorToWrite(name: string, tensor: Tensor, dtype: DType = tensor.dtype): TensorToWrite {
  return {
    name,
    dtype: toFileDType(dtype),
    shape: tensor.shape,
    async bytes() {
      const { backend } = tensor;
      const converted = cast(tensor, dtype);
      // A view is made dense before it is read.
      const buf = converted.isDense ? converted.buf : backend.copy(converted);
      try {
        return new Uint8Array(await backend.read(buf));
      } finally {
        if (buf !== converted.buf) backend.free(buf);
        if (converted !== tensor) converted.dispose();
      }
    },
  };
}
