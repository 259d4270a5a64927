"""The golden vectors lie beside the package in a checkout, and are installed inside it, as hifi_ref/golden."""

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """The folder's programs need the tests, so that only its JSON is installed."""

    def find_package_modules(self, package, package_dir):
        return [] if package == "hifi_ref.golden" else super().find_package_modules(package, package_dir)


setup(
    packages=[*find_namespace_packages(include=["hifi_ref*"]), "hifi_ref.golden"],
    package_dir={"hifi_ref.golden": "golden"},
    cmdclass={"build_py": BuildPy},
)
