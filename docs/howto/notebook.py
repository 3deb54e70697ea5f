# %% [markdown]
# # A campaign in a notebook
#
# Run it cell by cell (VS Code, Jupyter with jupytext, Spyder), or as a script: `python docs/howto/notebook.py`.
# It reads the latest campaign of the database in this folder (`devicelab.sqlite`), such as
# `devicelab sweep quick --board local` leaves, and draws three plots. With no database it measures one first.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import devicelab as dl

if not Path("devicelab.sqlite").exists():
    dl.sweep("quick", board="local", settings={"repetitions": 2})

lab = dl.open()
lab.campaigns()[["experiment", "device", "board", "runs_done", "runs_invalid"]].head()

# %% [markdown]
# Findings are those of the report: a claim, a verdict, an interval, and the number of repetitions it rests on.

# %%
results = lab.results()
results.findings()[["claim", "verdict", "estimate", "low", "high", "unit", "n"]]

# %% [markdown]
# ## One row a run: how long an inference takes at each flush period
# `wide` has the runs whose condition held; units are in `attrs`, times in `_ns` columns are nanoseconds.

# %%
wide = results.wide()
print(wide.attrs["units"]["total_ns"])
figure, axes = plt.subplots()
for load, rows in wide.groupby("load"):
    axes.plot(rows["k"], rows["total_ns"] / 1e6, "o", label=f"load {load}")
axes.set_xscale("log", base=2)
axes.set(xlabel="K, kernels a flush", ylabel="inference, ms (a point a repetition)")
axes.legend()
figure.savefig("inference-by-k.png")

# %% [markdown]
# ## Raw samples: the distribution of T_prod
# Every kernel of every profiled inference is there. A thousand kernels of one run are one repetition: look at them,
# and judge with `wide`.

# %%
kernels = results.samples("kernels").merge(results.runs()[["run_id", "load"]], on="run_id")
kernels["t_prod_us"] = kernels.groupby(["run_id", "inference"])["queued_ns"].diff() / 1e3
figure, axes = plt.subplots()
for load, rows in kernels.dropna(subset=["t_prod_us"]).groupby("load"):
    axes.ecdf(rows["t_prod_us"], label=f"load {load}")
axes.set(xlabel="T_prod, us", ylabel="share of kernels", xscale="log")
axes.legend()
figure.savefig("t-prod.png")

# %% [markdown]
# ## What happened in one run
# CPU use by core as sampled, over the phases of the agent.

# %%
run = wide.index[0]
used = results.timeline(run).query("quantity == 'cpu use'")
figure, axes = plt.subplots()
for cpu, rows in used.groupby("name"):
    axes.plot(rows["t_ns"] / 1e9, rows["value"], ".-", label=cpu)
for phase in results.spans(run).query("lane == 'agent' and name == 'measure'").itertuples():
    axes.axvspan(phase.start_ns / 1e9, phase.end_ns / 1e9, alpha=0.15, label="measured")
axes.set(xlabel="s from the start of the run", ylabel="CPU use, %")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure.savefig("one-run.png", bbox_inches="tight")
lab.close()
