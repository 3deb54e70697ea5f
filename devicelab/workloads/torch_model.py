"""A model that serves requests or trains on a GPU (``scripts/torch_tenant.py``): a tenant of priority experiments."""

from typing import Annotated, Literal

from pydantic import Field

from devicelab.model.measurement import Measurement
from devicelab.model.plan import Noun
from devicelab.workloads._requests import parse_requests
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ()
FILES: tuple[str, ...] = ("torch_tenant.py", "green_context.py")
PYTHON = True

Model = Literal[
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "vit_b_16",
    "densenet121",
    "vgg16",
    "alexnet",
    "squeezenet1_1",
    "deeplabv3_mobilenet_v3_large",
    "whisper_base",
    "matmul",
]


class Params(Noun):
    """Parameters of the tenant.

    Attributes:
        model: random weights; nothing is downloaded. ``matmul`` (a square product of size ``batch``) needs torch alone.
        mode: ``train`` (one optimiser step a request) is for resnet18 and mobilenet_v2.
        batch: images (or sounds) a request.
        dtype: of weights and input.
        device: ``auto`` takes the GPU if torch sees one (ROCm's is called cuda too).
        queue: requests that may wait; older ones are dropped (0: none are).
        warmup: requests before the common start, at the final shapes.
        decode_steps: of Whisper; random weights would end anywhere.
        stream_priority: of the CUDA stream; -1 is high.
        sm_pct: share of the card's SMs, in a CUDA green context; 0: no such context.
        sm_part: ``first``: that share; ``rest``: all the others.
        threads: of torch on a CPU.
    """

    model: Model
    mode: Literal["inference", "train"] = "inference"
    batch: Annotated[int, Field(ge=1, le=65536)] = 1
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    queue: Annotated[int, Field(ge=0, le=10**9)] = 0
    warmup: Annotated[int, Field(ge=1, le=10**6)] = 300
    decode_steps: Annotated[int, Field(ge=1, le=400)] = 24
    stream_priority: Annotated[int, Field(ge=-10, le=0)] = 0
    sm_pct: Annotated[int, Field(ge=0, le=99)] = 0
    sm_part: Literal["first", "rest"] = "first"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1


def command(params: Params, context: Context) -> CommandLine:
    """The command line of one tenant process."""
    words: list[object] = [context.python, f"{context.dir}/torch_tenant.py"]
    for name, value in params.model_dump().items():
        words += [f"--{name.replace('_', '-')}", value]
    words += ["--arrivals", context.arrivals, "--duration-s", context.duration_s, "--seed", context.seed]
    words += context.in_windows
    # Unbuffered output would print while others measure; the script prints once, at its end.
    return CommandLine(tuple(map(str, words)), env={"PYTHONDONTWRITEBYTECODE": "1"}, barrier=True)


def needs_gpu(params: Params) -> bool:
    """A model that may choose belongs on the GPU."""
    return params.device == "auto"


def parse(output: bytes, params: Params) -> Measurement:  # noqa: ARG001 - every workload is given its parameters
    """See ``parse_requests``."""
    return parse_requests(output, "torch_tenant")
