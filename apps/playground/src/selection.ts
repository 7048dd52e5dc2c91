/** What a Mamba's layers select: their step sizes and gates over a text (arXiv:2312.00752, section 3.5.2). */
import type { Mamba, MambaBlock } from "@mamba-ts/mamba";
import { abs, add, linear, mean, rmsNorm, scope, silu, softplus, split, type Tensor, tensor } from "@mamba-ts/tensor";
import type { LayerSelection } from "./protocol.js";

/** Means over channels of delta and of |silu(z)|, [1, length], from the residual stream before a block. */
function ofBlock(block: MambaBlock, stream: Tensor, model: Mamba): { delta: Tensor; gate: Tensor } {
  const { dInner, dtRank, dState, innerNorm, innerNormEps } = model.config;
  const { mixer } = block;
  const { y } = block.norm.forward(stream);
  const [x, z] = split(mixer.inProj.forward(y), [dInner, dInner]) as [Tensor, Tensor];
  const u = mixer.ssm.conv1d.forward(x).y;
  let [dt] = split(mixer.ssm.xProj.forward(u), [dtRank, dState, dState]) as [Tensor, Tensor, Tensor];
  if (innerNorm !== "none") dt = rmsNorm({ x: dt, eps: innerNormEps }).y;
  const delta = softplus(add(linear(dt, mixer.ssm.dtProj.weight.value), mixer.ssm.dtProj.bias!.value));
  return { delta: mean(delta, 2), gate: mean(abs(silu(z)), 2) };
}

/** @param ids - the tokens of the text, at least one */
export async function selectionOf(model: Mamba, ids: ArrayLike<number>): Promise<LayerSelection[]> {
  const layers = scope(() => {
    const { embeddings, layers: blocks } = model.backbone;
    const { hiddenStates } = model.forward([Int32Array.from(ids)], { logits: "none", hiddenStates: true });
    const tokens = tensor(model.backend, Int32Array.from(ids), [1, ids.length], "int32");
    const before = [embeddings.forward(tokens), ...hiddenStates!];
    return blocks.map((block, i) => ofBlock(block, before[i]!, model));
  });
  const result: LayerSelection[] = [];
  for (const { delta, gate } of layers) {
    result.push({ delta: Array.from(await delta.data()), gate: Array.from(await gate.data()) });
    delta.dispose();
    gate.dispose();
  }
  return result;
}
