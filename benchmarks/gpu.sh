#!/usr/bin/env bash
# All measurements of a machine with one GPU and without network, most important first; see benchmarks/gpu_pieces.py.
#
#   bash benchmarks/gpu.sh [--wheels DIR] [--data DIR] [--out DIR] [--budget SECONDS] [--only PIECE,...] [--trial]
#                          [--tiny --device cpu]
#
# --wheels: packages that the machine's Python lacks (Composer, Streaming and what they need), installed into a temporary
# folder. --data: a folder with the prepared data `babylm/` and the minimal pairs `blimp.tar.gz` or `blimp/`.
# PYTHON names the interpreter.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
began=$(date +%s)
rest=()
wheels=
while [ $# -gt 0 ]; do
  case $1 in
    --wheels)
      [ $# -gt 1 ] || { echo "--wheels needs a folder" >&2; exit 2; }
      wheels=$2; shift 2 ;;
    *) rest+=("$1"); shift ;;
  esac
done
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "$wheels" ]; then
  ls "$wheels"/*.whl >/dev/null || { echo "no wheels in $wheels" >&2; exit 2; }
  if "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --root-user-action ignore \
      --target "$work/site" "$wheels"/*.whl; then
    # After the project, before the machine's own packages.
    export PYTHONPATH=$root:$work/site${PYTHONPATH:+:$PYTHONPATH}
  else
    echo "the wheels could not be installed: pieces that need them will fail" >&2
  fi
fi
cd "$root" || exit 2
"$python" -m benchmarks.gpu_pieces --began "$began" --work "$work" ${rest[@]+"${rest[@]}"}
