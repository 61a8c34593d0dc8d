#!/bin/sh
# What a GPU does in a training: one command for all measurements. See bench/bench_gpu.py.
#
#     bench/gpu.sh [--data-root PTB-XL] [OPTION=VALUE ...]
#     bench/gpu.sh --cpu     the same code with tiny sizes on the CPU, which measures nothing
set -e
here=$(cd "$(dirname "$0")" && pwd)
python=$here/../.venv/bin/python
[ -x "$python" ] || python=python
PYTHONPATH=$here/../src${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$here/bench_gpu.py" "$@"
