"""Runs in a scratch folder, in a process of its own: mutmut with this project's mistakes.

    python driver.py SEED SAMPLE PLACE…

Makes every mutant of the places, takes a sample of each by the seed (0: all), and lets mutmut judge those that are not
known to be killed. mutmut keeps its verdicts beside the mutants, so that a run that was cut off goes on.
"""

import itertools
import os
import random
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.mutation.judged import NOT_KILLED


def main() -> None:
    """See the module."""
    seed, sample, places = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    from mutmut import __main__ as mutmut  # reads pyproject.toml of the folder it stands in
    from mutmut.mutation import file_mutation

    from tests.mutation.operators import mistakes

    file_mutation.mutation_operators = mistakes()  # type: ignore[assignment]
    names, taken = _names(mutmut), set[str]()
    for place in places:
        own = [name for name in names if name.startswith(f"devicelab.{place}.")]
        some = own if sample == 0 else random.Random(seed).sample(own, min(sample, len(own)))
        Path(f"{place}.sample").write_text("\n".join(sorted(some)) + "\n", encoding="utf-8")
        taken.update(some)
    data, _ = mutmut.collect_source_file_mutation_data(mutant_names=[])
    left = {name for _file, name, verdict in data if verdict in NOT_KILLED}.intersection(taken)
    if left:
        _quicker()
        mutmut._run(sorted(left), os.cpu_count())


def _quicker() -> None:
    """The tests just ran without a mutant, so they need not once more; and the shortest are the first to judge.

    That run is noted after each test file, so that one that was cut off goes on with the file it was at.
    """
    from mutmut.runners.harness import PytestRunner
    from mutmut.state import state
    from mutmut.stats import save_stats
    from mutmut.workers.isolation import ForkRunner

    judge, note = PytestRunner.run_tests, PytestRunner.run_stats

    def file_by_file(self: PytestRunner, *, tests: Iterable[str]) -> int:
        listed = sorted(tests or self.list_all_tests().ids)
        for _, some in itertools.groupby(listed, key=lambda test: test.partition("::")[0]):
            if failed := note(self, tests=list(some)):
                return failed
            save_stats()
        return 0

    def shortest_first(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        known = state().duration_by_test
        return judge(self, mutant_name=mutant_name, tests=sorted(tests, key=lambda test: (known.get(test, 0), test)))

    PytestRunner.run_tests = shortest_first  # type: ignore[method-assign]
    PytestRunner.run_stats = file_by_file  # type: ignore[method-assign]
    ForkRunner.run_clean_tests = lambda _self, tests: 0 if tests else 1  # type: ignore[method-assign,assignment]


def _names(mutmut: object) -> list[str]:
    """Every mutant of the places, in a fixed order. What a run that was cut off here left is made anew."""
    whole = Path("whole")
    if not whole.exists():
        shutil.rmtree("mutants/devicelab", ignore_errors=True)
    whole.unlink(missing_ok=True)
    mutmut.set_mutant_under_test("mutant_generation")
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.create_mutants(os.cpu_count() or 1)
    whole.touch()
    data, _ = mutmut.collect_source_file_mutation_data(mutant_names=[])
    return sorted(name for _file, name, _verdict in data)


if __name__ == "__main__":
    main()
