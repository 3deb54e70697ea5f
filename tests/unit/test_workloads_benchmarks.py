"""Public benchmarks' outputs: units, warm-up beside measured lines, several results, summaries, failures, cuts."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.errors import MeasurementError
from devicelab.model.measurement import Measurement
from devicelab.workloads import _benchmarks, command


def read(program: str, text: str, result: str = "", **more: Any) -> Measurement:
    params = command.Params.model_validate({"argv": ("./bench",), "output": program, "result": result, **more})
    return command.parse(text.encode(), params)


def values(got: Measurement) -> dict[str, float]:
    return {name: metric.value for name, metric in got.metrics.items()}


def codes(got: Measurement) -> list[tuple[str, bool]]:
    return [(flag.code, flag.remark) for flag in got.flags]


def tflite(model: str = "net", mean: str = "34250.4", prefix: str = "INFO: ") -> str:
    lines = (
        f"Graph: [/data/local/tmp/{model}.tflite]",
        "count=6 first=52193 curr=39000 min=38800 max=52193 avg=41000.5 std=5100",
        "",
        f"count=50 first=36190 curr=34201 min=34033 max=37012 avg={mean} std=380 p5=34050 median=34180 p95=34890",
        "",
        f"Inference timings in us: Init: 8514, First inference: 52193, Warmup (avg): 41000.5, Inference (avg): {mean}",
        "Memory footprint delta from the start of the tool (MB): init=4.2 overall=9.1",
        "Timings (microseconds): count=50 first=30000 curr=30000 min=30000 max=30000 avg=30000 std=0",
    )
    return "".join(f"{prefix if line else ''}{line}\n" for line in lines)


def test_benchmark_model_prints_microseconds_and_its_warm_up_is_not_measured() -> None:
    got = read("tflite", tflite())
    assert values(got) == {
        "mean_ns": 34_250_400, "total_ns": 34_250_400, "min_ns": 34_033_000, "max_ns": 37_012_000, "std_ns": 380_000,
        "p5_ns": 34_050_000, "median_ns": 34_180_000, "p95_ns": 34_890_000, "inferences": 50, "init_ns": 8_514_000,
        "first_ns": 52_193_000, "warmup_mean_ns": 41_000_500,
    }  # fmt: skip
    # A mean of 50 inferences is one value of a run: no table pretends to hold fifty.
    assert got.tables == {}
    assert codes(got) == [("summary-only", True)]
    assert "mean of 50 inferences" in got.flags[0].detail


@pytest.mark.parametrize("prefix", ["", "INFO: ", "I tflite  : ", "10:04:31.319  2638-2638  tflite  org.x  I  "])
def test_benchmark_model_s_lines_may_come_through_a_log(prefix: str) -> None:
    assert values(read("tflite", tflite(prefix=prefix)))["total_ns"] == 34_250_400


def test_benchmark_model_of_other_years() -> None:
    statistics = "count=1 curr=3512391\n\ncount=50 first=150000 curr=150000 min=140000 max=190000 avg=150988 std=4\n\n"
    old = f"{statistics}Average inference timings in us: Warmup: 135310, Init: 12123, no stats: 150988\n"
    assert values(read("tflite", old))["total_ns"] == 150_988_000
    six_digits = tflite(mean="2.95034e+06")
    assert values(read("tflite", six_digits))["total_ns"] == 2_950_340_000
    once = "Inference timings in us: Init: 5, First inference: 77, Warmup (avg): 0, Inference (avg): 77\n"
    got = values(read("tflite", f"count=1 curr=77\n\n{once}"))
    assert (got["min_ns"], got["max_ns"], got["inferences"]) == (77_000, 77_000, 1)
    assert "warmup_mean_ns" not in got


def test_models_one_after_the_other_are_told_apart_and_one_can_be_chosen() -> None:
    text = tflite("a") + tflite("b-2", mean="7000")
    got = values(read("tflite", text))
    assert (got["a_mean_ns"], got["b_2_mean_ns"]) == (34_250_400, 7_000_000)
    assert "total_ns" not in got
    assert values(read("tflite", text, "b-2"))["total_ns"] == 7_000_000
    with pytest.raises(MeasurementError, match="no result is named 'c'; there are a, b_2"):
        read("tflite", text, "c")
    with pytest.raises(MeasurementError, match="nothing tells them apart"):
        read("tflite", tflite("a") + tflite("a"))


def test_a_delegate_that_took_nothing_is_no_measurement_of_it() -> None:
    gone = "INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.\n"
    assert codes(read("tflite", gone + tflite()))[0] == ("not-delegated", False)


def ncnn(*rows: str, threads: int = 4) -> str:
    return f"loop_count = 8\nnum_threads = {threads}\npowersave = 0\n" + "".join(f"{row}\n" for row in rows)


SQUEEZE = "          squeezenet  min =    2.44  max =    2.51  avg =    2.46"
MOBILE = "        mobilenet_v2  min =    3.18  max =    3.22  avg =    3.20"


def test_benchncnn_prints_milliseconds_a_network_a_line() -> None:
    got = values(read("ncnn", ncnn(SQUEEZE, MOBILE)))
    assert got["squeezenet_mean_ns"] == 2_460_000
    assert (got["mobilenet_v2_min_ns"], got["mobilenet_v2_max_ns"]) == (3_180_000, 3_220_000)
    one = read("ncnn", ncnn(SQUEEZE))
    assert (values(one)["total_ns"], values(one)["inferences"]) == (2_460_000, 8)
    spoken = values(read("ncnn", ncnn(SQUEEZE + "  tps =  104.07")))
    assert (spoken["total_ns"], spoken["tokens_per_s"]) == (2_460_000, 104.07)
    twice = values(read("ncnn", ncnn(SQUEEZE, threads=1) + ncnn(SQUEEZE, threads=4)))
    assert "squeezenet_num_threads_4_mean_ns" in twice


def mnn(*names: str, blank: str = " ", backend: str = "CPU") -> str:
    head = f"MNN benchmark\nForward type: **{backend}** thread=4** precision=2\n--------> Benchmarking... loop = 10\n"
    return head + "".join(
        f"[ - ] {name:24}    max ={61.632:9.3f}{blank}ms  min ={38.819:9.3f}{blank}ms  avg ={40.068:9.3f}{blank}ms\n"
        for name in names
    )


@pytest.mark.parametrize("blank", ["", " "])
def test_mnn_prints_the_maximum_first(blank: str) -> None:
    got = values(read("mnn", mnn("SqueezeNetV1.0.mnn", blank=blank)))
    assert (got["max_ns"], got["min_ns"], got["total_ns"]) == (61_632_000, 38_819_000, 40_068_000)


def test_what_a_back_end_handed_over_is_remarked_and_what_failed_is_not_believed() -> None:
    text = mnn("a.mnn") + "Vulkan don't support 68, Reduction: pool5\n" + mnn("a.mnn", backend="Vulkan")
    got = read("mnn", text)
    assert {"a_on_CPU_mean_ns", "a_on_Vulkan_mean_ns"} <= got.metrics.keys()
    assert codes(got) == [("program-complained", True)]
    assert codes(read("ncnn", ncnn("fopen mobilenet.param failed", SQUEEZE)))[0] == ("program-complained", False)
    with pytest.raises(MeasurementError, match="line 4: squeezenet took no time"):
        read("ncnn", ncnn(SQUEEZE.replace("2.44", "0.00").replace("2.51", "0.00").replace("2.46", "0.00")))


TESTS = (
    {"model_filename": "/m/a.gguf", "n_threads": 4, "n_prompt": 512, "n_gen": 0, "avg_ns": 70_000_000,
     "stddev_ns": 1_000, "avg_ts": 7314.3, "stddev_ts": 12.5, "samples_ns": [69_000_000, 71_000_000, 70_000_000]},
    {"model_filename": "/m/a.gguf", "n_threads": 4, "n_prompt": 0, "n_gen": 128, "n_depth": 256,
     "avg_ns": 1_000_000_000, "stddev_ns": 0, "avg_ts": 128.0, "stddev_ts": 0,
     "samples_ns": [900_000_000, 1_100_000_000]},
)  # fmt: skip


def as_csv(tests: Sequence[dict[str, Any]]) -> str:
    names = [name for name in tests[1] if name != "samples_ns"]
    rows = [",".join(f'"{one.get(name, 0)}"' for name in names) for one in tests]
    return "\n".join([",".join(names), *rows, ""])


@pytest.mark.parametrize(
    "text",
    [json.dumps(TESTS, indent=2) + "\n", "".join(json.dumps(one) + "\n" for one in TESTS), as_csv(TESTS)],
    ids=["json", "jsonl", "csv"],
)
@pytest.mark.parametrize("log", ["", "ggml_vulkan: 0 = Some GPU (drv) | uma: 1, fp16: 1\nload_backend: loaded\n"])
def test_llama_bench_has_times_of_a_test_and_rates_of_tokens(text: str, log: str) -> None:
    got = read("llama-bench", log + text)
    assert got.metrics["pp512_tokens_per_s"].unit == "1/s"
    assert values(got)["tg128_d256_tokens_per_s"] == 128
    assert values(got)["pp512_mean_ns"] == 70_000_000
    one = read("llama-bench", log + text, "pp512")
    if "samples_ns" in text:
        assert one.tables["inferences"]["total_ns"].tolist() == [69_000_000, 71_000_000, 70_000_000]
        assert codes(one) == []
    else:
        assert one.tables == {}
        assert codes(one) == [("summary-only", True)]
    assert values(one)["total_ns"] == 70_000_000


def test_llama_bench_tests_of_one_name_differ_in_what_was_set() -> None:
    other = {**TESTS[0], "n_threads": 8, "avg_ns": 140_000_000, "avg_ts": 3657.1, "samples_ns": [140_000_000]}
    got = values(read("llama-bench", json.dumps([TESTS[0], other])))
    assert (got["pp512_n_threads_4_mean_ns"], got["pp512_n_threads_8_mean_ns"]) == (70_000_000, 140_000_000)


TABLE = """| model                |       size |     params | backend | ngl |          test |             t/s |
| -------------------- | ---------: | ---------: | ------- | --: | ------------: | --------------: |
| llama 7B mostly Q4_0 |   3.56 GiB |     6.74 B | CUDA    |  99 |         pp512 | 2368.80 ± 93.24 |
| llama 7B mostly Q4_0 |   3.56 GiB |     6.74 B | CUDA    |  99 | tg128 @ d4096 |   131.42 ± 0.59 |

build: 8cf427ff (5163)
"""


def test_a_table_of_rates_gives_rates_and_makes_no_time_up() -> None:
    got = read("llama-bench", TABLE)
    assert values(got) == {
        "pp512_tokens_per_s": 2368.8, "pp512_tokens_std_per_s": 93.24,
        "tg128_d4096_tokens_per_s": 131.42, "tg128_d4096_tokens_std_per_s": 0.59,
    }  # fmt: skip
    assert "total_ns" not in values(read("llama-bench", TABLE, "pp512"))


def test_a_test_that_failed_between_others_is_not_passed_over() -> None:
    rows = TABLE.splitlines(keepends=True)
    text = "".join([*rows[:3], "main: error: failed to create context with model 'a.gguf'\n", *rows[3:]])
    got = read("llama-bench", text)
    assert codes(got) == [("program-complained", False)]
    assert values(got) == values(read("llama-bench", TABLE))


@pytest.mark.parametrize(
    "hostile",
    [
        "[\n" * 30_000,
        "{" * 60_000,
        "{}" * 30_000,
        "min = 1 max = 2 " * 4_000,
        "Failed to apply " * 4_000,
        "| a " * 20_000,
    ],
    ids=["lists", "open", "objects", "rows", "failures", "cells"],
)
@pytest.mark.parametrize("program", sorted(_benchmarks.READERS))
def test_hostile_output_takes_no_time(program: str, hostile: str) -> None:
    with pytest.raises(MeasurementError):
        read(program, (hostile + "\n") * 3)


def test_a_line_of_a_log_that_looks_like_json_is_no_test() -> None:
    assert values(read("llama-bench", '{"level": "info"}\n[1/2] starting\n' + TABLE)) == values(
        read("llama-bench", TABLE)
    )


def test_columns_that_are_not_the_header_s_are_no_numbers() -> None:
    rows = as_csv(TESTS).splitlines()
    with pytest.raises(MeasurementError, match=r"line 2 has 10 fields, its header 9"):
        read("llama-bench", "\n".join([rows[0], rows[1] + ',"1"', ""]))
    with pytest.raises(MeasurementError, match="are not 73143 a second"):
        read("llama-bench", json.dumps([{**TESTS[0], "avg_ts": 73143}]))


def test_mnn_s_language_models_have_rates_of_prefill_and_decode() -> None:
    text = """| model | modelSize | backend | threads | precision | test | speed(tok/s) | loadingTime(s) |
| :-- | --: | --: | --: | --: | --: | --: | --: |
| qwen | 1.00 GiB | CPU | 4 | Low | pp512+tg128 | 405.37 ± 1.00<br>32.59 ± 0.08 | 0.50 ± 0.01 |
| qwen | 1.00 GiB | CPU | 4 | Low | pp64 | 300.00 ± 2.00 | 0.50 ± 0.01 |
"""
    got = values(read("mnn-llm", text))
    assert got["pp512_tg128_prefill_tokens_per_s"] == 405.37
    assert got["pp512_tg128_decode_tokens_per_s"] == 32.59
    assert (got["pp64_tokens_per_s"], got["pp64_load_ns"]) == (300, 500_000_000)
    document = {"model": "qwen", "results": [{"type": "decode", "generate_len": 128, "tps": 32.5, "std": 0.1}]}
    assert values(read("mnn-llm", f"start\n{json.dumps(document)}\n"))["tokens_per_s"] == 32.5


PERF_TEST = """Session creation time cost: 0.0102016 s
First inference time cost: 2 ms
Total inference time cost: 0.185739 s
Total inference requests: 100
Average inference time cost: 1.85739 ms
Number of inferences per second: 538.184
Peak working set size: 36696064 bytes
Min Latency: 0.00183404 s
Max Latency: 0.00190312 s
P50 Latency: 0.00185674 s
P999 Latency: 0.00190312 s
"""


def test_perf_test_mixes_milliseconds_and_seconds() -> None:
    got = values(read("onnxruntime", PERF_TEST))
    assert (got["total_ns"], got["min_ns"], got["p50_ns"]) == (1_857_390, 1_834_040, 1_856_740)
    assert (got["session_ns"], got["p99_9_ns"], got["inferences"]) == (10_201_600, 1_903_120, 100)
    assert got["inferences_per_s"] == 538.184
    old = "Session creation time cost:1.84149 s\nTotal inference requests:1\nAverage inference time cost:734.606 ms\n"
    assert values(read("onnxruntime", old))["total_ns"] == 734_606_000
    new = PERF_TEST.replace("time cost: 1.85739", "time cost total: 1.857390")
    assert values(read("onnxruntime", new)) == got
    with pytest.raises(MeasurementError, match="not between the minimum"):
        read("onnxruntime", PERF_TEST.replace("1.85739 ms", "1.85739 s"))


def test_perf_test_s_file_has_every_inference_of_one_run() -> None:
    rows = "".join(f"squeezenet,{0.0018 + n / 1e4},36696064,96,{n}\n" for n in range(3))
    got = read("onnxruntime", rows + "\nMin Latency is 0.0018sec\n")
    assert got.tables["inferences"]["total_ns"].tolist() == [1_800_000, 1_900_000, 2_000_000]
    assert (values(got)["total_ns"], got.flags) == (1_900_000, ())
    # Since 1.24 the seconds to submit stand before those to the end.
    assert values(read("onnxruntime", "net,0.0001,0.0018,36,96,0\n"))["total_ns"] == 1_800_000
    with pytest.raises(MeasurementError, match=r"line 5: inference 0 where 3 .*appends"):
        read("onnxruntime", rows + "\n" + rows)


def androidx(name: str = "parse", **metrics: Any) -> str:
    one = {"name": name, "params": {}, "className": "com.example.ParseBenchmark", "metrics": metrics}
    return json.dumps({"context": {"cpuLocked": True}, "benchmarks": [one]}, indent=4) + "\n"


def test_androidx_metrics_end_in_their_unit_and_keep_every_run() -> None:
    text = androidx(
        timeNs={"minimum": 100.0, "maximum": 103.0, "median": 101.0, "runs": [100.0, 103.0, 101.0]},
        allocationCount={"runs": [5.0, 5.0, 5.0]},
    )
    got = read("androidx", "INSTRUMENTATION_STATUS: x\n" + text)
    assert values(got) == {"time_ns": 101, "total_ns": 101, "allocation_count": 5}
    assert got.tables["inferences"]["total_ns"].tolist() == [100, 103, 101]
    quick = read("androidx", androidx(timeNs={"minimum": 1.38, "runs": [1.38, 1.44, 1.4]}))
    assert (values(quick)["total_ns"], quick.tables["inferences"]["total_ns"].tolist()) == (1.4, [1.38, 1.44, 1.4])
    start = read("androidx", androidx(timeToInitialDisplayMs={"runs": [21.5, 22.5]}))
    assert values(start) == {"time_to_initial_display_ns": 22_000_000}
    assert start.tables["samples"]["time_to_initial_display_ns"].tolist() == [21_500_000, 22_500_000]
    with pytest.raises(MeasurementError, match="minimum is not that of its runs"):
        read("androidx", androidx(timeNs={"minimum": 1.0, "runs": [100.0]}))


def test_androidx_frames_are_samples_of_many_runs_and_may_be_early() -> None:
    document = json.loads(androidx("EMULATOR_scroll", frameCount={"runs": [2.0, 2.0]}))
    document["benchmarks"][0]["sampledMetrics"] = {"frameOverrunMs": {"P50": -1.5, "runs": [[-3.0, 0.5], [1.0, -2.0]]}}
    got = read("androidx", json.dumps(document))
    assert values(got)["frame_overrun_p50_ns"] == -1_500_000
    assert got.tables["frame_overrun_ns"]["frame_overrun_ns"].tolist() == [-3_000_000, 500_000, 1_000_000, -2_000_000]
    assert codes(got) == [("benchmark-warned", True)]


def loadgen(scenario: str = "SingleStream", headline: str = "90th percentile latency (ns) : 426977") -> str:
    rule = "=" * 48
    return f"""{rule}
MLPerf Results Summary
{rule}
SUT name : PySUT
Scenario : {scenario}
Mode     : PerformanceOnly
{headline}
Result is : VALID
  Min duration satisfied : Yes

{rule}
Additional Stats
{rule}
QPS w/ loadgen overhead         : 2322.57

Min latency (ns)                : 400506
Mean latency (ns)               : 425899
50.00 percentile latency (ns)   : 425433
90.00 percentile latency (ns)   : 426977
99.90 percentile latency (ns)   : 436547

{rule}
Test Parameters Used
{rule}
target_latency (ns): 0
"""


def test_loadgen_s_latency_is_an_inference_s_time_only_where_nothing_waits() -> None:
    got = values(read("mlperf", loadgen()))
    assert (got["total_ns"], got["p90_ns"], got["p99_9_ns"]) == (425_899, 426_977, 436_547)
    assert got["queries_with_overhead_per_s"] == 2322.57
    offline = values(read("mlperf", loadgen("Offline", "Samples per second: 165.037")))
    assert offline["samples_per_s"] == 165.037
    assert "total_ns" not in offline


def test_a_run_that_loadgen_calls_invalid_counts_only_where_it_is_told_to() -> None:
    text = loadgen().replace("VALID\n  Min duration satisfied : Yes", "INVALID\n  Min duration satisfied : NO")
    assert ("called-invalid", False) in codes(read("mlperf", text))
    assert "not met: Min duration" in read("mlperf", text).flags[0].detail
    assert ("called-invalid", True) in codes(read("mlperf", text, any_verdict=True))
    with pytest.raises(MeasurementError, match="AccuracyOnly"):
        read("mlperf", loadgen().replace("PerformanceOnly", "AccuracyOnly"))


def test_loadgen_s_detailed_log_says_the_same() -> None:
    said = {
        "effective_scenario": "SingleStream", "effective_test_mode": "PerformanceOnly", "result_validity": "VALID",
        "result_qps_with_loadgen_overhead": 2322.57, "result_min_latency_ns": 400506, "result_mean_latency_ns": 425899,
        "result_50.00_percentile_latency_ns": 425433, "result_90.00_percentile_latency_ns": 426977,
        "result_99.90_percentile_latency_ns": 436547,
    }  # fmt: skip
    text = "".join(f":::MLLOG {json.dumps({'key': key, 'value': value})}\n" for key, value in said.items())
    assert values(read("mlperf", text)) == values(read("mlperf", loadgen()))


OUTPUTS = {
    "tflite": tflite(),
    "ncnn": ncnn(SQUEEZE, MOBILE),
    "mnn": mnn("a.mnn", "b.mnn"),
    "llama-bench": json.dumps(TESTS, indent=1) + "\n",
    "mnn-llm": TABLE.replace("size", "modelSize"),
    "onnxruntime": PERF_TEST,
    "androidx": androidx(timeNs={"runs": [100.0, 103.0, 101.0]}),
    "mlperf": loadgen(),
}


def test_every_program_has_an_output_here() -> None:
    assert OUTPUTS.keys() == _benchmarks.READERS.keys()


@pytest.mark.parametrize("program", OUTPUTS)
def test_an_output_cut_anywhere_gives_no_other_number(program: str) -> None:
    whole = values(read(program, OUTPUTS[program]))
    text = OUTPUTS[program].encode()
    seen = 0
    for end in range(len(text)):
        try:
            got = values(command.parse(text[:end], command.Params(argv=("x",), output=program)))
        except MeasurementError:
            seen += 1
            continue
        assert set(got.values()) <= set(whole.values()), end
    assert seen > 0


@pytest.mark.parametrize("program", OUTPUTS)
def test_what_is_none_of_its_outputs_is_said_with_line_and_shape(program: str) -> None:
    with pytest.raises(MeasurementError, match=r"empty|no JSON document"):
        read(program, "")
    other = "loading model\nmean latency 5 ms\n"
    with pytest.raises(MeasurementError) as caught:
        read(program, other)
    assert any(words in str(caught.value) for words in ("line 1", "line 2", "no line begins"))
    with pytest.raises(MeasurementError) as caught:
        read(program, "starting\nmain: error: failed to load model\nbye bye\n")
    assert "failed to load model" in str(caught.value) or "no line begins" in str(caught.value)


PIECES = [line.encode() for text in OUTPUTS.values() for line in text.splitlines()]


@given(
    st.sampled_from(sorted(OUTPUTS)),
    st.one_of(
        st.binary(max_size=300), st.lists(st.sampled_from([*PIECES, b"\xff", b"9" * 400, b"[", b"{"])).map(b"\n".join)
    ),
)
def test_any_output_is_read_or_refused(program: str, output: bytes) -> None:
    try:
        got = command.parse(output, command.Params(argv=("x",), output=program))
    except MeasurementError:
        return
    assert got.metrics
