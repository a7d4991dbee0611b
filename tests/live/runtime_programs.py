"""Tiny servers and clients of the runtimes that runtimes.toml tells of, where this machine has them."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PORT = 7000


class Program(NamedTuple):
    """How to start one of runtimes.toml, by its name there."""

    name: str
    command: tuple[str, ...]
    version: tuple[str, ...] | None = None
    """How to ask for its version; None: this Python's own."""
    build: tuple[str, str, tuple[str, ...]] | None = None
    """A source file's name and text, and the compiler's command, both in the folder the test gives."""
    files: tuple[tuple[str, str], ...] = ()
    """Configuration files in that folder."""


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


_ACCEPT = "k = []\nwhile True: k.append(s.accept())"
_ASYNCIO = """import asyncio
async def handle(reader, writer): await reader.read()
async def main():
    server = await asyncio.start_server(handle, None, 7000)
    await server.serve_forever()
asyncio.run(main())"""
_SOCKETSERVER = """import socketserver, time
class Handler(socketserver.BaseRequestHandler):
    def handle(self): time.sleep(60)
socketserver.TCPServer(('', 7000), Handler).serve_forever()"""
_HTTP = """import http.server as h
h.ThreadingHTTPServer(('', 7000), h.BaseHTTPRequestHandler).serve_forever()"""
_NGINX = """daemon off; master_process off; pid nginx.pid; error_log stderr;
events {} http { access_log off; server { listen 7000; } }"""
_HAPROXY = """defaults
  mode http
  timeout client 60s
frontend f
  bind :7000
"""
_GO = """package main
import "net"
func main() {
	l, err := net.Listen("tcp", ":7000")
	if err != nil { panic(err) }
	kept := []net.Conn{}
	for { c, _ := l.Accept(); kept = append(kept, c) }
}"""
_JAVA = """import java.net.*; import java.util.*;
public class Listen { public static void main(String[] a) throws Exception {
  var kept = new ArrayList<Socket>(); var s = new ServerSocket(7000);
  while (true) kept.add(s.accept()); } }"""
_RUST = """use std::net::*;
fn main() { let l = TcpListener::bind("0.0.0.0:7000").unwrap(); let mut kept = vec![];
  loop { kept.push(l.accept().unwrap().0); } }"""

SERVERS = (
    Program(
        "Python socket.create_server",
        _python(f"import socket\ns = socket.create_server(('', 7000)); {_ACCEPT}"),
    ),
    Program("asyncio.start_server", _python(_ASYNCIO)),
    Program("http.server, wsgiref", _python(_HTTP)),
    Program("socketserver.TCPServer", _python(_SOCKETSERVER)),
    Program(
        "multiprocessing Listener",
        _python(
            f"from multiprocessing.connection import Listener\ns = Listener(('0.0.0.0', 7000)); {_ACCEPT}"
        ),
    ),
    Program(
        "Node.js net",
        ("node", "-e", "require('net').createServer(() => {}).listen(7000)"),
        ("node", "--version"),
    ),
    Program(
        "Node.js http",
        ("node", "-e", "require('http').createServer(() => {}).listen(7000)"),
        ("node", "--version"),
    ),
    Program(
        "Perl IO::Socket",
        (
            "perl",
            "-MIO::Socket::INET",
            "-e",
            "$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 5); push @k, $s->accept while 1",
        ),
        ("perl", "-e", "print $^V"),
    ),
    Program(
        "Ruby TCPServer",
        ("ruby", "-rsocket", "-e", "s = TCPServer.new(7000); k = []; loop { k << s.accept }"),
        ("ruby", "--version"),
    ),
    Program("php -S", ("php", "-S", "0.0.0.0:7000"), ("php", "--version")),
    Program(
        "nginx", ("nginx", "-p", ".", "-c", "nginx.conf"), ("nginx", "-v"), files=(("nginx.conf", _NGINX),)
    ),
    Program(
        "haproxy", ("haproxy", "-f", "haproxy.cfg"), ("haproxy", "-v"), files=(("haproxy.cfg", _HAPROXY),)
    ),
    Program("Redis", ("redis-server", "--port", "7000", "--save", ""), ("redis-server", "--version")),
    Program("memcached", ("memcached", "-u", "root", "-p", "7000", "-U", "0"), ("memcached", "--version")),
    Program(
        "Go net.Listen, net/http",
        ("./listen",),
        ("go", "version"),
        ("listen.go", _GO, ("go", "build", "-o", "listen", "listen.go")),
    ),
    Program(
        "Java ServerSocket",
        ("java", "-cp", ".", "Listen"),
        ("javac", "-version"),
        ("Listen.java", _JAVA, ("javac", "Listen.java")),
    ),
    Program(
        "Rust std TcpListener",
        ("./listen",),
        ("rustc", "--version"),
        ("listen.rs", _RUST, ("rustc", "listen.rs")),
    ),
)

_CONNECT = "('127.0.0.1', 7000)"
_OPEN = """import asyncio
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', 7000)
    await reader.read()
asyncio.run(main())"""

CLIENTS = (
    Program(
        "Python socket.create_connection",
        _python(f"import socket\ns = socket.create_connection({_CONNECT}); s.recv(1)"),
    ),
    Program("asyncio.open_connection", _python(_OPEN)),
    Program(
        "http.client",
        _python(
            f"import http.client\nc = http.client.HTTPConnection(*{_CONNECT})\n"
            "c.request('GET', '/'); c.getresponse()"
        ),
    ),
    Program(
        "Node.js net.connect",
        ("node", "-e", "require('net').connect(7000, '127.0.0.1')"),
        ("node", "--version"),
    ),
    Program(
        "Node.js http.get",
        ("node", "-e", "require('http').get('http://127.0.0.1:7000/')"),
        ("node", "--version"),
    ),
    Program("curl", ("curl", "-s", "http://127.0.0.1:7000/"), ("curl", "--version")),
    Program("redis-cli", ("redis-cli", "-p", "7000", "ping"), ("redis-cli", "--version")),
)


def is_the_one_that_was_seen(program: Program, seen: tuple[str, ...]) -> bool:
    """Whether this machine has the program, in one of the versions (major.minor) that were looked at."""
    if program.version is None:
        return True
    if shutil.which(program.version[0]) is None:
        return False
    return _short(_version(program.version)) in set(map(_short, seen))


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout + done.stderr


def _short(text: str) -> str | None:
    found = re.search(r"\d+\.\d+", text)
    return found.group() if found else None


def prepare(program: Program, folder: Path) -> None:
    """Write the program's files, and build it."""
    for name, text in program.files:
        (folder / name).write_text(text, encoding="utf-8")
    if program.build is not None:
        name, text, command = program.build
        (folder / name).write_text(text, encoding="utf-8")
        subprocess.run(command, cwd=folder, check=True, timeout=100, capture_output=True)
