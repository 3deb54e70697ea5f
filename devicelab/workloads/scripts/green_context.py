"""A CUDA green context for one process: some of the card's SMs, and the proof of which ones it got.

Driver API (12.4 or newer) by ctypes, the structures of cuda.h. A stream of a green context serves kernels that were
loaded by the primary context, so torch needs nothing but the stream. Needs Python 3.8 and nothing else.
"""

import ctypes

SM = 1  # CU_DEV_RESOURCE_TYPE_SM
DEFAULT_STREAM = 1  # CU_GREEN_CTX_DEFAULT_STREAM
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
BLOCKS = 8192  # of the kernel that looks: many times what a card holds at once
THREADS = 1024  # so that an SM holds two blocks at most

# Every block writes down the SM it runs on, and stays for 20 us so that the others have to go elsewhere.
LOOK = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry look(.param .u64 out)
{
  .reg .b32 %r<3>;
  .reg .b64 %d<8>;
  .reg .pred %p<2>;
  ld.param.u64 %d1, [out];
  cvta.to.global.u64 %d2, %d1;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %smid;
  mul.wide.u32 %d3, %r1, 4;
  add.s64 %d4, %d2, %d3;
  st.global.u32 [%d4], %r2;
  mov.u64 %d5, %globaltimer;
AGAIN:
  mov.u64 %d6, %globaltimer;
  sub.u64 %d7, %d6, %d5;
  setp.lt.u64 %p1, %d7, 20000;
  @%p1 bra AGAIN;
  ret;
}
\x00"""


class Resource(ctypes.Structure):
    """CUdevResource, version 1."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("_padding", ctypes.c_ubyte * 92),
        ("sms", ctypes.c_uint),
        ("least", ctypes.c_uint),
        ("alignment", ctypes.c_uint),
        ("_rest", ctypes.c_ubyte * 36),
    ]


class Driver:
    """Calls of libcuda; what fails raises RuntimeError with the call's name and the driver's own word."""

    def __init__(self, path="libcuda.so.1"):
        self.library = ctypes.CDLL(path)

    def __call__(self, name, *arguments):
        """Call a function of the driver."""
        try:
            function = getattr(self.library, name)
        except AttributeError:
            raise RuntimeError(f"this driver has no {name} (green contexts need 12.4 or newer)") from None
        code = function(*arguments)
        if code:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name}: error {code}: {(text.value or b'').decode(errors='replace')}")


def partition(driver, device, pct, part):
    """(all SMs of the card, SMs asked for, the resource): ``part`` is ``first`` (pct of them) or ``rest``."""
    whole = Resource()
    driver("cuDeviceGetDevResource", device, ctypes.byref(whole), SM)
    first, rest, groups = Resource(), Resource(), ctypes.c_uint(1)
    wanted = max(1, round(whole.sms * pct / 100))
    driver(
        "cuDevSmResourceSplitByCount",
        ctypes.byref(first), ctypes.byref(groups), ctypes.byref(whole), ctypes.byref(rest), 0, wanted,
    )  # fmt: skip
    if part == "first":
        return whole.sms, wanted, first
    return whole.sms, whole.sms - wanted, rest


def create(device, pct, part, priority=0, driver=None):
    """A stream of a green context with a share of the SMs: (CUstream, what was asked, granted and seen)."""
    driver = driver or Driver()
    total, asked, resource = partition(driver, device, pct, part)
    description, context, stream = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    driver("cuDevResourceGenerateDesc", ctypes.byref(description), ctypes.byref(resource), 1)
    driver("cuGreenCtxCreate", ctypes.byref(context), description, device, DEFAULT_STREAM)
    granted = Resource()
    driver("cuGreenCtxGetDevResource", context, ctypes.byref(granted), SM)
    driver("cuGreenCtxStreamCreate", ctypes.byref(stream), context, NON_BLOCKING, priority)
    told = {"sm_total": total, "sm_asked": asked, "sm_granted": granted.sms}
    return stream.value, told


def seen_on(stream, driver=None):
    """Numbers of the SMs on which blocks of that stream really run, sorted."""
    driver = driver or Driver()
    library, kernel, memory = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    driver("cuLibraryLoadData", ctypes.byref(library), LOOK, None, None, 0, None, None, 0)
    driver("cuLibraryGetKernel", ctypes.byref(kernel), library, b"look")
    driver("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * BLOCKS))
    arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(memory), ctypes.c_void_p))
    driver("cuLaunchKernel", kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, ctypes.c_void_p(stream), arguments, None)
    driver("cuStreamSynchronize", ctypes.c_void_p(stream))
    where = (ctypes.c_uint32 * BLOCKS)()
    driver("cuMemcpyDtoH_v2", where, memory, ctypes.c_size_t(4 * BLOCKS))
    driver("cuMemFree_v2", memory)
    return sorted(set(where))


def ranges(numbers):
    """``0-3,8``: sorted numbers as text."""
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in found)
