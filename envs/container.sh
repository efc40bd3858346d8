#!/bin/sh
# Installs Python and the pinned packages into a container; envs/Dockerfile and envs/apptainer.def both run this, as
# root on Debian 12. Also without a container: TORCH_INDEX= sh envs/container.sh /opt/crossprompt
#
# TORCH_INDEX   where PyTorch comes from, besides the package index: by default PyTorch's builds without CUDA. If it is
#               empty, PyTorch is the package index's build for CUDA 13, which needs an NVIDIA driver of release 580 or
#               newer. https://download.pytorch.org/whl/cu126 has builds for older drivers.
set -eu

folder=${1:?name the folder to install into}
envs=$(dirname "$0")
TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3-venv
    rm -rf /var/lib/apt/lists/*
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "container.sh: $(python3 -V) is too old: use a base image with Python 3.11 or newer" >&2
    exit 1
}
python3 -m venv "$folder"
# --use-pep517: the pip of Debian 12 would build seqeval, which has no wheel, with setup.py and fail.
"$folder/bin/python" -m pip install --use-pep517 --no-cache-dir --disable-pip-version-check \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --constraint "$envs/constraints.txt" \
    --requirement "$envs/requirements.txt" --requirement "$envs/quickstart.txt"
