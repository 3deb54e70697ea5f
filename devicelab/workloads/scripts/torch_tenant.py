"""One tenant of a GPU: a model with random weights that serves requests, open loop, and records each in ns.

Self-contained: needs Python 3.8, torch and torchvision (Whisper: transformers), downloads nothing. Runs on CUDA,
ROCm (which torch calls cuda too) or CPU, on a stream of its own: schedulers that hook streams do not see the default
one. Loads, warms up at the final shapes, says READY on the descriptor in DEVICELAB_READY_FD, reads the common start
time (CLOCK_MONOTONIC ns) from the one in DEVICELAB_GO_FD, then works until start + duration and prints JSON lines.
"""

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import math
import os
import sys
import time
import types
from pathlib import Path

VERSION = 1
CHUNK = 2000
MASK = (1 << 64) - 1
TORCHVISION = (
    "resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "densenet121", "vgg16", "alexnet",
    "squeezenet1_1",
)  # fmt: skip
TRAINABLE = ("resnet18", "mobilenet_v2")
# Spin for the last stretch before a scheduled time: a sleeping thread wakes up to a scheduler tick late.
SPIN_NS = 200_000


def now_ns():
    """CLOCK_MONOTONIC, the clock the agent's start time is given in."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def uniforms(seed):
    """Doubles in [0, 1) by SplitMix64 (Steele, Lea, Flood 2014), the same in every language."""
    state = seed & MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield ((z ^ (z >> 31)) >> 11) * 2.0**-53


def arrivals(kind, seed, duration_ns):
    """Scheduled offsets from the common start in ns; None for a continuous tenant."""
    name, _, number = kind.partition(":")
    if name == "continuous":
        return None
    value = float(number)
    if not value > 0:
        raise ValueError(f"arrivals {kind!r}: a positive number is needed")
    if name == "poisson":
        found, at = [], 0.0
        for u in uniforms(seed):
            at += -math.log1p(-u) / value * 1e9
            if at >= duration_ns:
                return found
            found.append(int(at))
    period_ns = {"fixed": 1e9 / value, "every": value * 1e9}[name]
    return [int(k * period_ns) for k in range(math.ceil(duration_ns / period_ns))]


def wake_on_time():
    """Have the kernel keep this process's timers: it lets them be 50 us late unless it is told otherwise (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK


def wait_until(at_ns):
    """Sleep, then spin for the last stretch."""
    while (left := at_ns - now_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / 1e9)


def serve_windows(step, args, start_ns, duration_ns):
    """``serve`` for every window, each with arrivals of its own; offsets stay those from the common start."""
    every_ns = duration_ns + round(args.pause_s * 1e9)
    done, dropped = [], []
    for window in range(args.windows):
        schedule = arrivals(args.arrivals, args.seed + window, duration_ns)
        at = window * every_ns
        wait_until(start_ns + at)
        served, lost = serve(step, schedule, start_ns + at, duration_ns, args.queue)
        done += [(scheduled + at, begin + at, end + at) for scheduled, begin, end in served]
        dropped += [scheduled + at for scheduled in lost]
    return done, dropped


def serve(step, schedule, start_ns, duration_ns, queue):
    """Perform requests until the window ends: (scheduled, start, end) offsets, and scheduled offsets dropped.

    ``queue`` is the number of requests that may wait; the oldest waiting ones beyond it are dropped (0: none are).
    """
    wake_on_time()
    done, dropped, index = [], [], 0
    end_ns = start_ns + duration_ns
    while True:
        if schedule is None:
            begin = now_ns()
            if begin >= end_ns:
                return done, dropped
            scheduled = begin - start_ns
        else:
            if index >= len(schedule):
                return done, dropped
            wait_until(start_ns + schedule[index])
            if queue:
                waiting = index
                now = now_ns() - start_ns
                while waiting < len(schedule) and schedule[waiting] <= now:
                    waiting += 1
                while waiting - index > queue:
                    dropped.append(schedule[index])
                    index += 1
            begin = now_ns()
            if begin >= end_ns:
                dropped.extend(schedule[index:])
                return done, dropped
            scheduled = schedule[index]
            index += 1
        step()
        done.append((scheduled, begin - start_ns, now_ns() - start_ns))


def torchvision_models():
    """``torchvision.models``; torch's compiler, half of a tenant's start, is loaded only if something asks for it.

    ``torchvision/ops/roi_align.py`` imports one function of the compiler, by which its detection operators ask whether
    they may be compiled: no model here calls it.
    """
    name = "torch._dynamo.utils"
    if name in sys.modules:
        return importlib.import_module("torchvision.models")
    stand_in = types.ModuleType(name)

    def compiler():
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return importlib.import_module(name)

    def attribute(wanted):
        if wanted.startswith("__"):  # the import system asks for these
            raise AttributeError(wanted)
        return getattr(compiler(), wanted)

    stand_in.is_compile_supported = lambda device_type: compiler().is_compile_supported(device_type)
    stand_in.__getattr__ = attribute
    sys.modules[name] = stand_in
    try:
        return importlib.import_module("torchvision.models")
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def build_model(name, batch, torch, device, dtype):
    """(model, example input, forward): random weights, nothing is downloaded."""
    if name == "whisper_base":
        from transformers import WhisperConfig, WhisperForConditionalGeneration

        config = WhisperConfig(
            d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8, decoder_attention_heads=8,
            encoder_ffn_dim=2048, decoder_ffn_dim=2048,
        )  # fmt: skip
        model = WhisperForConditionalGeneration(config).to(device, dtype)
        sound = torch.randn(batch, 80, 3000, device=device, dtype=dtype)

        def transcribe(steps):
            # Random weights end anywhere: a fixed number of decode steps makes every request the same work.
            encoded = model.model.encoder(sound)
            tokens = torch.full((batch, 1), config.decoder_start_token_id, device=device)
            past = None
            for _ in range(steps):
                out = model(
                    encoder_outputs=encoded, decoder_input_ids=tokens[:, -1:], past_key_values=past, use_cache=True
                )
                past = out.past_key_values
                tokens = torch.cat([tokens, out.logits[:, -1:].argmax(-1)], dim=1)
            return tokens

        return model, sound, transcribe
    zoo = torchvision_models()
    if name == "deeplabv3_mobilenet_v3_large":
        # The backbone's weights default to a download.
        model = zoo.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)
        shape = (batch, 3, 520, 520)
    elif name in TORCHVISION:
        model = getattr(zoo, name)(weights=None)
        shape = (batch, 3, 224, 224)
    else:
        raise ValueError(f"no model named {name!r}; there are {', '.join(MODELS)}")
    model = model.to(device, dtype)
    example = torch.randn(*shape, device=device, dtype=dtype)
    return model, example, lambda: model(example)


MODELS = (*TORCHVISION, "deeplabv3_mobilenet_v3_large", "whisper_base", "matmul")


def make_step(args, torch, device):
    """One request as a function that returns when its result is there, and the stream it works on (None on a CPU)."""
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[args.dtype]
    if args.model == "matmul":
        a = torch.randn(args.batch, args.batch, device=device, dtype=dtype)
        forward = lambda: a @ a  # noqa: E731 - the models below are functions too
        model = None
    else:
        model, example, forward = build_model(args.model, args.batch, torch, device, dtype)
        if args.model == "whisper_base":
            whisper = forward
            forward = lambda: whisper(args.decode_steps)  # noqa: E731
    stream = make_stream(args, torch, device) if device.type == "cuda" else None
    if args.mode == "train":
        if args.model not in TRAINABLE:
            raise ValueError(f"training is for {', '.join(TRAINABLE)}")
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
        target = torch.zeros(args.batch, dtype=torch.long, device=device)
        loss_of = torch.nn.CrossEntropyLoss()

        def work():
            optimiser.zero_grad(set_to_none=True)
            loss_of(model(example), target).backward()
            optimiser.step()
    else:
        if model is not None:
            model.eval()

        def work():
            with torch.inference_mode():
                forward()

    if stream is None:
        return work, None

    def step():
        with torch.cuda.stream(stream):
            work()
        stream.synchronize()

    return step, stream


def make_stream(args, torch, device):
    """The stream requests run on; with a share of the SMs that of a green context, with what it was granted."""
    if not args.sm_pct:
        return torch.cuda.Stream(priority=args.stream_priority)
    import green_context  # beside this file, needed by this leg alone

    torch.cuda.init()
    torch.zeros(1, device=device)  # the primary context is there
    index = torch.cuda.current_device()
    handle, args.green = green_context.create(index, args.sm_pct, args.sm_part, args.stream_priority)
    args.green["sm_ids"] = green_context.ranges(green_context.seen_on(handle))
    return torch.cuda.ExternalStream(handle, device=device)


def gate():
    """Say READY, and wait for the common start time; without an agent the start is now."""
    ready, go = os.environ.get("DEVICELAB_READY_FD"), os.environ.get("DEVICELAB_GO_FD")
    if ready is None or go is None:
        return now_ns() + 10_000_000
    os.write(int(ready), b"READY\n")
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(int(go), 64)
        if not more:
            sys.exit("the agent went away before the start")
        line += more
    return int(line)


def driver():
    """The version of the kernel's GPU driver."""
    for name in ("nvidia", "amdgpu"):
        try:
            return f"{name} {Path(f'/sys/module/{name}/version').read_text(encoding='utf-8').strip()[:100]}"
        except OSError:
            continue
    return ""


def card(torch):
    """The card's own name (UUID), by which one of the same kind is told from it; "" where torch does not tell it."""
    return str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))


def emit(data):
    """One JSON line."""
    sys.stdout.write(json.dumps(data, separators=(",", ":")) + "\n")


def report(args, info, done, dropped, start_ns):
    """Print everything that was recorded; nothing is printed while requests are served."""
    said = {name: value for name, value in vars(args).items() if name != "green"}
    emit({"tool": "torch_tenant", "version": VERSION, **info, **said, "start_ns": start_ns})
    for at in range(0, len(done), CHUNK):
        part = done[at : at + CHUNK]
        emit({"requests": dict(zip(("scheduled_ns", "start_ns", "end_ns"), map(list, zip(*part))))})
    emit({"end": True, "requests": len(done), "dropped": len(dropped), "dropped_scheduled_ns": dropped})
    sys.stdout.flush()


def main():
    """Parse, load, warm up, wait for the start, serve, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=MODELS)
    parser.add_argument("--mode", default="inference", choices=("inference", "train"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument("--arrivals", default="continuous")
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queue", type=int, default=0)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--decode-steps", type=int, default=24)
    parser.add_argument("--stream-priority", type=int, default=0)
    parser.add_argument("--sm-pct", type=int, default=0)
    parser.add_argument("--sm-part", default="first", choices=("first", "rest"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--pause-s", type=float, default=0.0)
    args = parser.parse_args()
    duration_ns = round(args.duration_s * 1e9)
    try:
        arrivals(args.arrivals, args.seed, duration_ns)
    except (ValueError, KeyError) as error:
        parser.error(f"--arrivals {args.arrivals}: {error}")
    import torch

    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    if device.type == "cpu":
        torch.set_num_threads(args.threads)
    args.green = {}
    step, stream = make_step(args, torch, device)
    # What the driver says of the real stream: the argument proves nothing.
    args.stream_priority = None if stream is None else stream.priority
    for _ in range(args.warmup):
        step()
    info = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "hip": getattr(torch.version, "hip", None) or "",
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "driver": driver() if device.type == "cuda" else "",
        "device_uuid": card(torch) if device.type == "cuda" else "",
        "pid": os.getpid(),
        **args.green,
    }
    # A collection is a stall that the GPU's scheduler would be blamed for (torch's first takes 100 ms).
    gc.collect()
    gc.disable()
    start_ns = gate()
    wait_until(start_ns)
    done, dropped = serve_windows(step, args, start_ns, duration_ns)
    report(args, info, done, dropped, start_ns)


if __name__ == "__main__":
    main()
