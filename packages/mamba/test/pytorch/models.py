"""Models of transformers with random weights, and the ways in which checkpoints are saved."""
import json

import torch
from transformers import FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM

# Step sizes and weights large enough that every part of the model matters.
LIVELY = dict(time_step_min=0.01, time_step_max=0.2, initializer_range=0.3)


def theirs():
    """Yields (name, model, save)."""
    yield "odd", mamba(vocab_size=97, hidden_size=40, state_size=5, num_hidden_layers=2, expand=3, conv_kernel=3, time_step_rank=7, use_bias=True, tie_word_embeddings=False), pretrained()
    yield "no-conv-bias", mamba(vocab_size=50, hidden_size=24, state_size=17, num_hidden_layers=4, expand=1, conv_kernel=2, use_bias=False, use_conv_bias=False), pretrained()
    yield "tied-biased", mamba(vocab_size=33, hidden_size=7, state_size=1, num_hidden_layers=1, conv_kernel=5, time_step_rank=1, use_bias=True, use_conv_bias=False, residual_in_fp32=False), pretrained()
    yield "inner-size", mamba(vocab_size=61, hidden_size=20, num_hidden_layers=2, expand=2, state_size=16, time_step_rank=3, layer_norm_epsilon=1e-2, use_bias=False), pretrained(unknown_key={"a": [1]}, another=None)
    yield "sharded", mamba(vocab_size=80, hidden_size=32, num_hidden_layers=5, state_size=8, use_bias=False, tie_word_embeddings=False), pretrained(max_shard_size="30KB")
    yield "bin-only", mamba(vocab_size=70, hidden_size=28, num_hidden_layers=2, state_size=9, time_step_rank=5, use_bias=False), torch_file
    yield "bfloat16", rounded(mamba(vocab_size=64, hidden_size=48, num_hidden_layers=3, state_size=16, use_bias=False)), in_bfloat16
    yield "state-spaces", padded(mamba(vocab_size=96, hidden_size=24, num_hidden_layers=3, state_size=11, use_bias=False)), state_spaces(93)
    yield "state-spaces-untied", padded(mamba(vocab_size=48, hidden_size=16, num_hidden_layers=2, state_size=4, conv_kernel=3, use_bias=True, use_conv_bias=False, tie_word_embeddings=False)), state_spaces(47)
    yield "layer-norm", padded(layer_norms(mamba(vocab_size=72, hidden_size=36, num_hidden_layers=3, state_size=6, use_bias=False, layer_norm_epsilon=1e-5))), state_spaces(72)
    yield "falcon", lively(FalconMambaForCausalLM(FalconMambaConfig(vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=3, use_bias=False, tie_word_embeddings=False, **LIVELY))), pretrained()
    yield "falcon-odd", lively(FalconMambaForCausalLM(FalconMambaConfig(vocab_size=41, hidden_size=19, state_size=3, num_hidden_layers=2, expand=3, conv_kernel=3, time_step_rank=5, use_bias=True, use_conv_bias=False, tie_word_embeddings=True, mixer_rms_eps=1e-3, **LIVELY))), pretrained()


def mamba(**config):
    return lively(MambaForCausalLM(MambaConfig(**config, **LIVELY)))


def lively(model):
    """Norms, biases and D with values of their own."""
    model = model.float().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    return model


def layer_norms(model):
    """state-spaces/mamba with rms_norm false, which transformers cannot say."""
    def norm(width):
        return torch.nn.LayerNorm(width, eps=model.config.layer_norm_epsilon)

    width = model.config.hidden_size
    for layer in model.backbone.layers:
        layer.norm = norm(width)
    model.backbone.norm_f = norm(width)
    return lively(model)


def rounded(model):
    """Its weights are what bfloat16 can hold, so that nothing is lost in the file."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    return model


def padded(model):
    model.file_name = lambda name: name.replace("backbone.embeddings.", "backbone.embedding.")
    return model


def write_config(folder, change):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def pretrained(max_shard_size="5GB", **keys):
    def save(model, folder):
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        write_config(folder, keys)

    return save


def torch_file(model, folder):
    """The file older repositories have, and no safetensors."""
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def in_bfloat16(model, folder):
    model.bfloat16().save_pretrained(folder)
    model.float()


def state_spaces(vocab):
    """state-spaces/mamba's names, configuration and file: the vocabulary padded to a multiple of 8, the head's tied copy in the file."""

    def save(model, folder):
        folder.mkdir(parents=True)
        c = model.config
        is_layer_norm = isinstance(model.backbone.norm_f, torch.nn.LayerNorm)
        config = dict(
            d_model=c.hidden_size, n_layer=c.num_hidden_layers, vocab_size=vocab, rms_norm=not is_layer_norm, residual_in_fp32=True, fused_add_norm=True,
            pad_vocab_size_multiple=8, tie_embeddings=c.tie_word_embeddings,
            ssm_cfg=dict(d_state=c.state_size, d_conv=c.conv_kernel, expand=c.expand, bias=c.use_bias, conv_bias=c.use_conv_bias),
        )
        (folder / "config.json").write_text(json.dumps(config))
        torch.save({model.file_name(name): tensor for name, tensor in model.state_dict().items()}, folder / "pytorch_model.bin")

    return save
