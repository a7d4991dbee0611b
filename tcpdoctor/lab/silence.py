"""A peer that fell silent, and a path that loses segments: in one namespace and without a firewall."""

import ctypes
import socket
import struct

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN = 0x06  # BPF_RET | BPF_K
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_LOAD_LENGTH = 0x80  # BPF_LD | BPF_W | BPF_LEN
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_WHOLE = 0xFFFFFFFF

_Instruction = tuple[int, int, int, int]


def go_deaf(sock: socket.socket) -> None:
    """Let the kernel drop every segment that comes for this socket, before TCP sees it.

    To the other end this is a host that is gone: its segments are never acknowledged, and no reset
    answers them. A deaf listener never answers a SYN; a deaf socket that connects never sees the SYN-ACK.
    """
    _attach(sock, [(_RETURN, 0, 0, 0)])


def hear_partly(sock: socket.socket, lost_of_256: int) -> None:
    """Let the kernel drop a random part of the segments that come for this socket: a path with loss."""
    _attach(
        sock,
        [
            (_LOAD, 0, 0, _RANDOM),
            (_AND, 0, 0, 0xFF),
            (_AT_LEAST, 0, 1, lost_of_256),
            (_RETURN, 0, 0, _WHOLE),
            (_RETURN, 0, 0, 0),
        ],
    )


def hear_small(sock: socket.socket, most: int) -> None:
    """Let the kernel drop every segment longer than `most` bytes, its TCP header included: a black hole."""
    _attach(
        sock,
        [
            (_LOAD_LENGTH, 0, 0, 0),
            (_AT_LEAST, 0, 1, most + 1),
            (_RETURN, 0, 0, 0),
            (_RETURN, 0, 0, _WHOLE),
        ],
    )


def hear_again(sock: socket.socket) -> None:
    """Undo `go_deaf` and `hear_partly`."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, program: list[_Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code)
    fprog = struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
