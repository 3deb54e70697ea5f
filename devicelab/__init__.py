"""devicelab: how does a program's latency change with the board's load, clocks, flush period or GPU scheduler?"""

__version__ = "0.2.0"
