"""llama.cpp's own quantiser on a GGUF file, through the library that node-llama-cpp brings; it has no command for it.

    python3 llama-quantize.py FOLDER IN.gguf OUT.gguf q4_K_M

FOLDER is the one node-llama-cpp is installed in.
"""
import ctypes, glob, sys

# llama_ftype
TYPES = {"f16": 1, "q4_0": 2, "q8_0": 7, "q4_K_S": 14, "q4_K_M": 15, "q6_K": 18, "bf16": 32}


class Parameters(ctypes.Structure):
    """llama_model_quantize_params: the first two members, and room for the others."""

    _fields_ = [("nthread", ctypes.c_int32), ("ftype", ctypes.c_int32), ("rest", ctypes.c_uint8 * 120)]


folder, source, target, kind = sys.argv[1:]
bins = f"{folder}/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
for name in ("ggml-base", "ggml", "llama"):
    path = sorted(glob.glob(f"{bins}/lib{name}.v*.so") + glob.glob(f"{bins}/lib{name}.so"))[0]
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
library.llama_backend_init()
library.llama_model_quantize_default_params.restype = Parameters
library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
library.llama_model_quantize.restype = ctypes.c_uint32
parameters = library.llama_model_quantize_default_params()
parameters.nthread, parameters.ftype = 2, TYPES[kind]
sys.exit(library.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))
