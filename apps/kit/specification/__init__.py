"""The AsyncAPI document of one app or of several, from decorators and contracts and nothing else."""

from apps.kit.specification.document import EventSpecification
from apps.kit.specification.topology import bindings

__all__ = ["EventSpecification", "bindings"]
