"""Warm slots: worker groups that stay up and take one task after another.

A fresh Ray Train worker group costs many seconds before its first step and after its last; a slot is a TorchTrainer run
whose workers ask for the next task instead of ending. `pool` starts and ends the slots (in the driver), `hub` is the
mailbox between everybody (one actor), `rank` is what each worker runs, `client` submits a task and follows it.
Nothing here knows what a task is: `Workload` says how workers prepare and what they do with one.
"""
