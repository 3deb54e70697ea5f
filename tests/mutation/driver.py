"""Runs in a room's scratch folder, in a process of its own: mutmut with this project's mistakes.

    python driver.py SEED SAMPLE

Makes every mutant of the room, takes a sample of them by the seed (0: all), and lets mutmut judge those that are not
judged yet. mutmut keeps its verdicts beside the mutants, so that a run that was cut off goes on.
"""

import os
import random
import sys
from pathlib import Path


def main() -> None:
    """See the module."""
    seed, sample = int(sys.argv[1]), int(sys.argv[2])
    from mutmut import __main__ as mutmut  # reads pyproject.toml of the folder it stands in
    from mutmut.mutation import file_mutation

    from tests.mutation.operators import mistakes

    file_mutation.mutation_operators = mistakes()  # type: ignore[assignment]
    names = _names(mutmut)
    taken = names if sample == 0 else random.Random(seed).sample(names, min(sample, len(names)))
    Path("sample.txt").write_text("\n".join(sorted(taken)) + "\n", encoding="utf-8")
    data, _ = mutmut.collect_source_file_mutation_data(mutant_names=[])
    left = {name for _file, name, verdict in data if verdict is None}.intersection(taken)
    if left:
        mutmut._run(sorted(left), os.cpu_count())


def _names(mutmut: object) -> list[str]:
    """Every mutant of the room, in a fixed order."""
    mutmut.set_mutant_under_test("mutant_generation")
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.create_mutants(os.cpu_count() or 1)
    data, _ = mutmut.collect_source_file_mutation_data(mutant_names=[])
    return sorted(name for _file, name, _verdict in data)


if __name__ == "__main__":
    main()
