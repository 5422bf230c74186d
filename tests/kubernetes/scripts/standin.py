#!/usr/bin/env python3
"""Plays docker, podman, kind, kubectl or make, by the name it is called: writes down every call with its stdin, and
answers from a small world in the file $STANDIN_WORLD, which its own calls change as the real ones would."""
import json
import os
import sys

tool, argv = os.path.basename(sys.argv[0]), sys.argv[1:]
world_path = os.environ["STANDIN_WORLD"]
with open(world_path) as f:
    world = json.load(f)
text = " ".join(argv)
takes_stdin = "-" in argv or "--config=-" in argv or "/dev/stdin" in argv
given = sys.stdin.read() if takes_stdin else None
with open(os.environ["STANDIN_RECORD"], "a") as f:
    f.write(json.dumps({"tool": tool, "argv": argv, "stdin": given,
                        "provider": os.environ.get("KIND_EXPERIMENTAL_PROVIDER")}) + "\n")


def end(out="", code=0):
    with open(world_path, "w") as f:
        json.dump(world, f)
    if out:
        print(out)
    sys.exit(code)


def engine():
    if argv[0] == "info":
        if not world["engine"]:
            end(code=1)
        end("true" if world["rootless"] and "Rootless" in text else "false")
    if argv[0] == "inspect" and "State.Running" in text:
        end({"running": "true", "stopped": "false"}.get(world["registry"], ""), 0 if world["registry"] else 1)
    if argv[0] == "inspect":
        end(" ".join(world["networks"]) + " ")
    if argv[:2] == ["image", "inspect"]:
        end(code=0 if argv[2] in world["images"] else 1)
    if argv[0] == "pull":
        if world["air_gap"]:
            end(code=1)
        world["images"].append(argv[1])
        end()
    if argv[0] == "run":
        world["registry"] = "running"
        world["networks"] = [argv[argv.index("--network") + 1]]
        end()
    if argv[0] == "start":
        world["registry"] = "running"
        end()
    if argv[0] == "rm":
        world["registry"] = ""
        end()
    if argv[:2] == ["network", "inspect"]:
        end(code=0 if "kind" in world.get("all_networks", []) else 1)
    if argv[:2] == ["network", "create"]:
        world.setdefault("all_networks", []).append(argv[2])
        end()
    if argv[:2] == ["network", "connect"]:
        world["networks"].append(argv[2])
        end()
    end()


def kind():
    name = argv[argv.index("--name") + 1] if "--name" in argv else None
    if argv[:2] == ["get", "clusters"]:
        end("\n".join(world["clusters"]))
    if name is None:
        print("a call of kind without --name", file=sys.stderr)
        end(code=1)
    if argv[:2] == ["create", "cluster"]:
        world["clusters"].append(name)
        end()
    if argv[:2] == ["delete", "cluster"]:
        world["clusters"].remove(name)
        end()
    if argv[:2] == ["get", "nodes"]:
        end(f"{name}-control-plane\n{name}-worker" if name in world["clusters"] else "")
    end()


def kubectl():
    if "jsonpath" in text and "architecture" in text:
        end(world["platform"])
    if "rollout" in argv:
        end(code=0 if world["ready"] else 1)
    end()


{"docker": engine, "podman": engine, "kind": kind, "kubectl": kubectl, "make": end}[tool]()
