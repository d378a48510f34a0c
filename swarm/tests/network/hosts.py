#!/usr/bin/env python3
"""A swarm of hosts on one machine: each a network namespace, with bad links between them.

    sudo swarm/tests/network/hosts.py [--hosts 8] [--rtt-ms 100] [--loss 0.05] [--mbit 50]
                                      [--murmur target/release/murmur] [--scenes join,split,kill]

Every host has one interface, a TUN device whose other end is this program: it carries packets
between hosts with the delay, loss and rate that are asked for, and none at all between the
halves of a split. That needs /dev/net/tun and the right to make namespaces, and no module of
the kernel's (many have no netem). Where it may not, it says so and ends well.

Scenes: everyone joins by an invite and a round of all settles; a split in two heals and every
host sees rounds settle again; a host is killed (SIGKILL), comes back from its home, trains and
sees rounds settle. At the end all hosts must agree on every settled round.
"""

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
QUEUE_S = 0.2  # a router's buffer; beyond it packets are dropped


def skip(why):
    print(f"NOTE: network namespaces are not tested here: {why}")
    sys.exit(0)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class Links:
    """Carries packets between hosts."""

    def __init__(self, hosts, rtt_s, loss, bits):
        self.delay, self.loss, self.bits = rtt_s / 2, loss, bits
        self.tag = f"mm{os.getpid() % 10000}"
        self.fds, self.free, self.side = [], [0.0] * hosts, [0] * hosts
        self.passed = self.lost = 0
        self.random = random.Random(7)
        self.ending = False
        for index in range(hosts):
            space, device = self.space(index), f"{self.tag}t{index}"
            run("ip", "netns", "add", space)
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            self.fds.append(fd)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
            run("ip", "link", "set", device, "netns", space)
            inside = ["ip", "-n", space]
            run(*inside, "addr", "add", f"10.88.0.{index + 1}/24", "dev", device)
            run(*inside, "link", "set", device, "mtu", "1420", "multicast", "on", "up")
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "route", "add", "default", "dev", device)
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()

    def space(self, index):
        return f"{self.tag}-{index}"

    def carry(self):
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        index_of = {fd: index for index, fd in enumerate(self.fds)}
        waiting, count = [], 0
        while not self.ending:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, packet = heapq.heappop(waiting)
                try:
                    os.write(self.fds[to], packet)
                except OSError:
                    self.lost += 1
            wait = 50 if not waiting else max(0, min(50, (waiting[0][0] - now) * 1000))
            for fd, _ in poll.poll(wait):
                for _ in range(32):
                    try:
                        packet = os.read(fd, 2048)
                    except OSError:
                        break
                    sender = index_of[fd]
                    for to in self.receivers(sender, packet):
                        now = time.monotonic()
                        sent = max(now, self.free[sender]) + len(packet) * 8 / self.bits
                        if sent - now > QUEUE_S or self.random.random() < self.loss:
                            self.lost += 1
                            continue
                        self.free[sender] = sent
                        count += 1
                        self.passed += 1
                        heapq.heappush(waiting, (sent + self.delay, count, to, packet))

    def receivers(self, sender, packet):
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return []
        everyone = [to for to in range(len(self.fds)) if to != sender and self.side[to] == self.side[sender]]
        if 224 <= packet[16] < 240:
            return everyone
        to = packet[19] - 1
        return [to] if packet[16:19] == bytes([10, 88, 0]) and to in everyone else []

    def split(self, hosts):
        self.side = [int(index in hosts) for index in range(len(self.fds))]

    def close(self):
        self.ending = True
        self.thread.join(timeout=2)
        for index, fd in enumerate(self.fds):
            os.close(fd)
            subprocess.run(["ip", "netns", "del", self.space(index)], capture_output=True)


class Host:
    def __init__(self, links, index, murmur, folder):
        self.inside = ["ip", "netns", "exec", links.space(index), murmur]
        self.home, self.index, self.process = os.path.join(folder, f"host{index}"), index, None
        self.log = open(os.path.join(folder, f"host{index}.log"), "ab")

    def start(self, *arguments):
        common = ["--headless", "--peers", "1", "--eval-items", "1", "--home", self.home]
        self.process = subprocess.Popen([*self.inside, *arguments, *common], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)

    def events(self):
        try:
            with open(os.path.join(self.home, "events.jsonl")) as lines:
                for line in lines:
                    try:
                        yield json.loads(line)
                    except ValueError:
                        pass  # the last line may be half written
        except FileNotFoundError:
            pass

    def settled(self):
        return {event["round"]: event["tx"] for event in self.events() if event["type"] == "settled"}

    def whole_round(self, peers):
        """The newest settled round that it saw so many peers take part in, or zero."""
        rounds = [event["round"] for event in self.events()
                  if event["type"] == "round_ended" and event["peers"] == peers and event["settled"]]
        return max(rounds, default=0)

    def trained(self):
        return max((event["round"] for event in self.events() if event["type"] == "trained"), default=0)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()


def wait_until(hosts, reached, after, patience, what):
    """Until `reached` of every host is a round beyond `after`."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        rounds = [reached(host) for host in hosts]
        if min(rounds) > after:
            took = time.monotonic() - began
            print(f"{what} after {took:.0f} s (rounds {min(rounds)} to {max(rounds)})", flush=True)
            return
        for host in hosts:
            if host.process.poll() is not None:
                raise AssertionError(f"host {host.index} ended by itself")
        time.sleep(1)
    raise AssertionError(f"in {patience} s not: {what}; newest round by host: {rounds}")


def newest(hosts):
    return max(max(host.settled(), default=0) for host in hosts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--rtt-ms", type=float, default=100)
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--mbit", type=float, default=50)
    parser.add_argument("--murmur", default="target/release/murmur")
    parser.add_argument("--scenes", default="join,split,kill")
    parser.add_argument("--patience", type=float, default=240, help="seconds a scene may take")
    args = parser.parse_args()
    scenes = args.scenes.split(",")
    if os.geteuid() != 0:
        skip("only root may make them")
    try:
        links = Links(args.hosts, args.rtt_ms / 1000, args.loss, args.mbit * 1e6)
    except OSError as error:
        skip(error)
    folder = tempfile.mkdtemp(prefix="murmur-hosts-")
    murmur = os.path.abspath(args.murmur)
    hosts = [Host(links, index, murmur, folder) for index in range(args.hosts)]
    print(f"{args.hosts} hosts, {args.rtt_ms:.0f} ms, {args.loss:.0%} loss, {args.mbit:.0f} Mbit/s; "
          f"logs in {folder}", flush=True)
    ok = False
    try:
        quiet = ["--relay", "none", "--find", "mdns,remembered"]
        created = subprocess.run([*hosts[0].inside, "create", "--json", "--home", hosts[0].home, *quiet],
                                 capture_output=True, text=True, check=True)
        invite = json.loads(created.stdout)["invite"]
        hosts[0].start("run")
        for host in hosts[1:]:
            host.start("join", invite, *quiet)
        whole = lambda host: host.whole_round(args.hosts)
        goes_on = lambda host: min(max(host.settled(), default=0), host.trained())
        wait_until(hosts, whole, 0, args.patience, f"joined: a round of all {args.hosts} settled")
        if "split" in scenes:
            half = set(range(args.hosts // 2 + 1, args.hosts))
            links.split(half)
            print(f"split: hosts {sorted(half)} are cut off for 40 s", flush=True)
            time.sleep(40)
            links.split(set())
            wait_until(hosts, goes_on, newest(hosts) + 1, args.patience, "healed: rounds settle and train at every host")
        if "kill" in scenes:
            hosts[-1].kill()
            time.sleep(5)
            hosts[-1].start("join")
            wait_until(hosts, goes_on, newest(hosts) + 1, args.patience, "killed and back: rounds settle and train at every host")
        history = {}
        for host in hosts:
            for number, tx in host.settled().items():
                assert history.setdefault(number, tx) == tx, f"round {number} settled twice"
        missing = [n for n in range(1, max(history) + 1) if n not in history]
        print(f"one history: {len(history)} settled rounds of {max(history)}, the same at every host; "
              f"unsettled: {missing or 'none'}; packets {links.passed}, lost {links.lost}")
        ok = True
    except AssertionError as error:
        print(f"FAILED: {error}")
    finally:
        for host in hosts[::-1]:
            host.stop()
        links.close()
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
