"""Which folders the wheel has: the two packages, and yamls/ as `elc_composer.yamls`. pyproject.toml says the rest."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["elc_composer*", "streaming_prep*"]),
        "elc_composer.yamls",
        "elc_composer.yamls.finetune",
    ],
    package_dir={"elc_composer.yamls": "yamls"},
)
