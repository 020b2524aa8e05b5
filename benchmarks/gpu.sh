#!/usr/bin/env bash
# All that is measured on a GPU, in one go and under ten minutes: numerical tests, then pictures and training steps with
# their memory, and, where there are two GPUs, the same training in two processes.
#
#   bash benchmarks/gpu.sh results/gpu      writes test.log, engine.md and processes.log there
#   TINY=1 bash benchmarks/gpu.sh /tmp/gpu  rehearses it at tiny sizes, without a GPU too
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:?give the folder for the results}
for file in test.log engine.md processes.log processes; do
    if [ -e "$out/$file" ]; then
        echo "error: $out already holds $file: give another folder" >&2
        exit 2
    fi
done
mkdir -p "$out"
python=${PYTHON:-python3}
if [ -n "${TINY:-}" ]; then
    size=(--size tiny --repeats 1 --batch-sizes 1 2 --train-batch 4 --dtype float32)
    several=(--device cpu --preset tiny --steps 2 --batch-size 4)
else
    size=(--repeats 3 --batch-sizes 1 16 64 --train-batch 256 --dtype bfloat16 float32)
    several=(--device cuda --steps 20)
fi
"$python" -m pytest -q -p no:cacheprovider tests/test_gpu.py 2>&1 | tee "$out/test.log"
status=${PIPESTATUS[0]}
"$python" benchmarks/engine.py --cases base upsampler embedded train --beside original diffusers "${size[@]}" \
    --out "$out/engine.md" || status=$?
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
if [ -n "${TINY:-}" ] || [ "$gpus" -ge 2 ]; then
    "$python" benchmarks/processes.py "${several[@]}" --out "$out/processes" 2>&1 | tee "$out/processes.log"
    [ "${PIPESTATUS[0]}" -eq 0 ] || status=1
else
    echo "one GPU: two processes are left out" | tee "$out/processes.log"
fi
exit "$status"
