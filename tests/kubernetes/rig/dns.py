#!/usr/bin/env python3
"""A DNS server with the names of one StatefulSet, as a cluster's is: over UDP and TCP, and with its caches.

    dns.py --listen 10.0.0.10 [--ttl 5] [--negative 30] [--listen-fresh 10.0.0.11]

Answers A, AAAA and SRV below the zone (cluster.local); NXDOMAIN with an SOA for what is not there, NOERROR without
answers for a name that has only other types. As CoreDNS does, it goes on giving an answer it has once given: an
address for --ttl seconds, "no such name" for --negative seconds, whatever has changed meanwhile. At the address
--listen-fresh it does not.

Commands come in on stdin, one JSON object a line, each answered by a line "ok" on stdout:

    {"records": {"NAME": ["10.0.0.20", "fd00::20"], ...}}     all names there are, without the zone's dot at the end
    {"services": {"_client._tcp.NAME": [["TARGET", 2379], ...], ...}}
    {"silent": true}                                          takes questions, answers none
    {"forget": true}                                          drops what is cached
"""
import argparse
import ipaddress
import json
import socket
import struct
import sys
import threading
import time

A, SOA, AAAA, SRV = 1, 6, 28, 33
NOERROR, FORMERR, NXDOMAIN, REFUSED = 0, 1, 3, 5
UDP_MAX = 512


def encode_name(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".") if part) + b"\0"


def decode_name(packet, at):
    parts = []
    while packet[at] != 0:
        if packet[at] & 0xC0:
            raise ValueError("compressed question")
        parts.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(parts).lower(), at + 1


class Zone:
    def __init__(self, options):
        self.lock = threading.Lock()
        self.zone, self.ttl, self.negative = options.zone, options.ttl, options.negative
        self.records, self.services, self.silent = {}, {}, False
        self.cache = {}  # (name, type): (until, rcode, answers)

    def command(self, words):
        with self.lock:
            self.records = words.get("records", self.records)
            self.services = words.get("services", self.services)
            self.silent = words.get("silent", self.silent)
            if words.get("forget"):
                self.cache.clear()

    def look_up(self, name, kind):
        """(rcode, [(type, data)]) as it is now."""
        if name != self.zone and not name.endswith("." + self.zone):
            return REFUSED if "." not in name else NXDOMAIN, []
        if name in self.services:
            entries = [(SRV, struct.pack("!HHH", 0, 100, port) + encode_name(target))
                       for target, port in self.services[name]]
            return NOERROR, entries if kind == SRV else []
        if name in self.records:
            found = []
            for text in self.records[name]:
                address = ipaddress.ip_address(text)
                if kind == (A if address.version == 4 else AAAA):
                    found.append((kind, address.packed))
            return NOERROR, found
        inner = any(known.endswith("." + name) for known in list(self.records) + list(self.services))
        return (NOERROR if inner else NXDOMAIN), []

    def ask(self, name, kind, fresh):
        now = time.monotonic()
        with self.lock:
            if self.silent:
                return None
            if fresh:
                return *self.look_up(name, kind), 0
            until, rcode, answers = self.cache.get((name, kind), (0, 0, []))
            if now >= until:
                rcode, answers = self.look_up(name, kind)
                keep = self.ttl if answers else self.negative
                until = now + keep
                self.cache[(name, kind)] = (until, rcode, answers)
            return rcode, answers, max(0, int(until - now))


def answer(zone, packet, size_max, fresh):
    if len(packet) < 12:
        return None
    ident, flags, questions = struct.unpack("!HHH", packet[:6])
    head = lambda rcode, answers, authority, cut=0: struct.pack(
        "!HHHHHH", ident, 0x8480 | (flags & 0x0100) | cut | rcode, 1 if questions else 0, answers, authority, 0)
    try:
        name, at = decode_name(packet, 12)
        kind, _ = struct.unpack("!HH", packet[at:at + 4])
    except (ValueError, IndexError, struct.error, UnicodeDecodeError):
        return struct.pack("!HHHHHH", ident, 0x8480 | FORMERR, 0, 0, 0, 0)
    question = packet[12:at + 4]
    said = zone.ask(name, kind, fresh)
    if said is None:
        return None
    rcode, found, ttl = said
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", what, 1, ttl, len(data)) + data for what, data in found)
    authority = b""
    if not found:
        data = encode_name("ns.dns." + zone.zone) + encode_name("hostmaster." + zone.zone) + struct.pack(
            "!IIIII", 1, 7200, 1800, 86400, zone.negative)
        authority = encode_name(zone.zone) + struct.pack("!HHIH", SOA, 1, ttl, len(data)) + data
    whole = head(rcode, len(found), 1 if authority else 0) + question + body + authority
    if len(whole) > size_max:
        return head(rcode, 0, 0, cut=0x0200) + question
    return whole


def serve_udp(zone, sock, fresh):
    while True:
        try:
            packet, sender = sock.recvfrom(4096)
            reply = answer(zone, packet, UDP_MAX, fresh)
            if reply is not None:
                sock.sendto(reply, sender)
        except OSError:
            pass  # who asked is gone


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def serve_connection(zone, connection, fresh):
    try:
        with connection:
            while True:
                size, = struct.unpack("!H", read_exactly(connection, 2))
                reply = answer(zone, read_exactly(connection, size), 65535, fresh)
                if reply is not None:
                    connection.sendall(struct.pack("!H", len(reply)) + reply)
    except OSError:
        pass


def serve_tcp(zone, sock, fresh):
    while True:
        connection, _ = sock.accept()
        connection.settimeout(30)
        threading.Thread(target=serve_connection, args=(zone, connection, fresh), daemon=True).start()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--listen", required=True, help="address")
    p.add_argument("--listen-fresh", help="address")
    p.add_argument("--port", type=int, default=53)
    p.add_argument("--zone", default="cluster.local")
    p.add_argument("--ttl", type=int, default=5, help="seconds that an address goes on being given")
    p.add_argument("--negative", type=int, default=30, help="seconds that \"no such name\" goes on being said")
    options = p.parse_args()
    zone = Zone(options)
    for address, fresh in ((options.listen, False), (options.listen_fresh, True)):
        if address is None:
            continue
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, options.port))
        tcp = socket.create_server((address, options.port))
        threading.Thread(target=serve_udp, args=(zone, udp, fresh), daemon=True).start()
        threading.Thread(target=serve_tcp, args=(zone, tcp, fresh), daemon=True).start()
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            zone.command(json.loads(line))
            print("ok", flush=True)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
