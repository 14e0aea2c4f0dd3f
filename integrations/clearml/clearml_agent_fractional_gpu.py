# SPDX-License-Identifier: Apache-2.0
"""Fractions of a GPU for the containers of ClearML Agent, kept by fracgpu.

clearml-agent calls patch_docker_cmd_gpu_fraction() of a module of this name for queues like 'quarter=0.25' of --dynamic-gpus.
For other agents this program prints the lines of agent.conf:

    python3 -m clearml_agent_fractional_gpu --memory 8GiB --compute 25%
"""
import argparse
import json
import os

# After the image the agent names the program that it starts in the container.
AFTER_IMAGE = ("bash", "-c")


def docker_arguments(memory, compute="", runtime="fracgpu"):
    """What makes a container have no more than memory ('8GiB', '25%'), and compute ('25%') of the GPU's time."""
    arguments = ["--runtime", runtime] if runtime else []
    arguments += ["-e", "FRACGPU_MEMORY=" + memory]
    if compute:
        arguments += ["-e", "FRACGPU_COMPUTE=" + compute]
    return arguments


def percent(fraction):
    """'12.5%' of 0.125, rounded down: the parts of a GPU may not be more than the whole."""
    permille = int(float(fraction) * 1000 + 1e-6)
    if not 1 <= permille <= 1000:
        raise ValueError("{} is no part of a GPU".format(fraction))
    return "{}.{}%".format(permille // 10, permille % 10)


def patch_docker_cmd_gpu_fraction(docker_cmd, gpu_fraction):
    """The agent's 'docker run' command, for a container with a fraction of the GPU.

    The arguments stand last before the image, where Docker takes them in place of what the task says. A command that
    is not understood raises ValueError: the task does not start.

    Environment of the agent: FRACGPU_CLEARML_RUNTIME, name of the runtime at the engine (fracgpu; empty: its default one);
    FRACGPU_CLEARML_COMPUTE, share of the GPU's time ('fraction', as of its memory; '50%'; 'none').
    """
    command = list(docker_cmd)
    image = len(command) - 4
    if command[1:2] != ["run"] or image < 2 or tuple(command[-3:-1]) != AFTER_IMAGE:
        raise ValueError("fracgpu does not understand this agent's docker command: {}".format(command[:-1]))
    share = percent(gpu_fraction)
    compute = os.environ.get("FRACGPU_CLEARML_COMPUTE", "fraction")
    command[image:image] = docker_arguments(
        share, share if compute == "fraction" else compute, os.environ.get("FRACGPU_CLEARML_RUNTIME", "fracgpu"))
    return command


def agent_conf(arguments):
    """Lines for agent.conf: the arguments stand after those of the task, and so count."""
    return ("agent.extra_docker_arguments: {}\n"
            "agent.docker_args_extra_precedes_task: false\n"
            "agent.protected_docker_extra_args: []\n").format(json.dumps(arguments))


def main():
    parser = argparse.ArgumentParser(
        prog="python3 -m clearml_agent_fractional_gpu",
        description="Print the lines of agent.conf that give each task of an agent a part of the GPU.")
    parser.add_argument("--memory", required=True, help="limit on GPU memory: 8GiB, or 25%% of each GPU")
    parser.add_argument("--compute", default="", help="most of the GPU's time: 25%%")
    parser.add_argument("--runtime", default="fracgpu", help="the engine's name of fracgpu-runtime")
    parser.add_argument("argument", nargs="*", help="after --: more arguments of docker run")
    options = parser.parse_args()
    print(agent_conf(options.argument + docker_arguments(options.memory, options.compute, options.runtime)), end="")


if __name__ == "__main__":
    main()
