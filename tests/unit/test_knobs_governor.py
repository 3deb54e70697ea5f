"""A governor's settings come back with it, on a kernel that forgets them."""

import pytest
from board_trees import CPU, Texts, facts

from devicelab import knobs
from devicelab.model.experiment import Level

POLICIES = ("policy0", "policy4", "policy7")
CHOSEN = {name: str(500 + index) for index, name in enumerate(POLICIES)}


class Kernel:
    """Governors whose settings are freed when a policy leaves them or loses its CPUs, and begin with defaults."""

    def __init__(self) -> None:
        self.governor = dict.fromkeys(POLICIES, "schedutil")
        self.rate: dict[str, str] = dict(CHOSEN)

    def write(self, path: str, text: str) -> None:
        *_, folder, name = path.split("/")
        if name == "online":
            self._hotplug(folder, text)
        elif name == "scaling_governor":
            self.governor[folder] = text
            self.rate.pop(folder, None)
            if text == "schedutil":
                self.rate[folder] = "10000"
        else:
            policy = path.split("/")[-3]
            assert policy in self.rate, f"{path} is not there"
            self.rate[policy] = text

    def _hotplug(self, cpu: str, text: str) -> None:
        if cpu == "cpu7":
            self.rate.pop("policy7", None)
            if text == "1":
                self.rate["policy7"] = "10000"


@pytest.mark.parametrize(
    ("wants", "meanwhile"),
    [
        ({"governor": "performance"}, {}),
        ({"cores": "0-6"}, {"policy0": "500", "policy4": "501"}),
        ({"cores": "0-6", "governor": "performance"}, {}),
    ],
)
def test_what_a_governor_is_set_to_comes_back(wants: dict[str, Level], meanwhile: dict[str, str]) -> None:
    change: Texts = {f"{CPU}/cpufreq/{name}/schedutil/rate_limit_us": f"{rate}\n" for name, rate in CHOSEN.items()}
    kernel = Kernel()
    steps = [
        step
        for setting in knobs.settings(wants, facts("sm8150", change=change)).values()
        for step in setting.steps
        if step.kind == "write"
    ]
    for step in steps:
        kernel.write(step.path, step.value)
    assert kernel.rate == meanwhile
    for step in reversed(steps):  # as the agent does: what was read, where the plan does not say
        name = step.path.rsplit("/", 1)[-1]
        kernel.write(step.path, step.restore or ("schedutil" if name == "scaling_governor" else step.value))
    assert kernel.rate == CHOSEN
    assert set(kernel.governor.values()) == {"schedutil"}
