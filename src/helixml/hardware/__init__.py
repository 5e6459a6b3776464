"""What computes here: devices and what they can, graphs of operations, and what these cost."""

from helixml.hardware.capabilities import Capabilities, capabilities
from helixml.hardware.catalogue import DeviceRecord, device, devices, missing, supporting
from helixml.hardware.choice import estimates, optimal
from helixml.hardware.cost_model import CostModel, Measured
from helixml.hardware.fusion import Fusion, fusions
from helixml.hardware.graph import ComputeGraph, Run
from helixml.hardware.machine import Cache, Machine, machine
from helixml.hardware.memory import Allocations, MemoryUse, allocations, memory
from helixml.hardware.operations import CLASSES, Operation, Spec
from helixml.hardware.pool import MemoryHandle, MemoryPool, PoolStatistics
from helixml.hardware.recording import GraphBuilder, from_loss, operation, record
from helixml.hardware.trees import to
from helixml.hardware.unified import UnifiedTensor

__all__ = [
    "CLASSES",
    "Allocations",
    "Cache",
    "Capabilities",
    "ComputeGraph",
    "CostModel",
    "DeviceRecord",
    "Fusion",
    "GraphBuilder",
    "Machine",
    "Measured",
    "MemoryHandle",
    "MemoryPool",
    "MemoryUse",
    "Operation",
    "PoolStatistics",
    "Run",
    "Spec",
    "UnifiedTensor",
    "allocations",
    "capabilities",
    "device",
    "devices",
    "estimates",
    "from_loss",
    "fusions",
    "machine",
    "memory",
    "missing",
    "operation",
    "optimal",
    "record",
    "supporting",
    "to",
]
