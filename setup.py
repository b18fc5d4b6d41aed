"""Packages of the wheel; all else is in pyproject.toml.

The recipes, which a clone keeps in `configs/`, travel inside the package as `pinpoint/recipes/`.
"""

from setuptools import find_packages, setup

PACKAGES = find_packages(include=["pinpoint*", "detector*", "losses*", "datamodules*", "evaluation*"])

setup(
    packages=[*PACKAGES, "pinpoint.recipes"],
    package_dir={"pinpoint.recipes": "configs"},
    package_data={
        "pinpoint.recipes": ["*.yaml"],
        "evaluation.report": ["page.html"],
        "detector": ["pretrained/scenes/*"],
    },
)
