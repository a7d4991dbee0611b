"""Runs this project's checks on other Linux kernels, under qemu's software emulation."""
