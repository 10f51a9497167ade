"""Calls of `tacit` that cannot work, one a line, each with what the answer must name.

Words in braces stand for what `places_of` makes: {none} is not there, {folder} is an empty folder, {text} a
file of plain text, {hdf5} text posing as an episode, {onnx} as a bundle, {yaml} no YAML, {link} a broken
link, {under} a path below a file, {episode}, {data} and {bundle} are sound, {pipe} is a named pipe.
"""

from __future__ import annotations

from typing import NamedTuple


class BadCall(NamedTuple):
    """The words after `tacit`, and a regular expression that finds what is wrong in the answer."""

    words: str
    named: str
    code: str = "2"
    """Exit code; 1 where a verb does what it can and says what it could not."""


def _calls(text: str) -> list[BadCall]:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return [BadCall(*(part.strip() for part in line.split(" => "))) for line in lines]


CORE = _calls("""
frobnicate => no such verb
evalute => did you mean 'evaluate'
sample => sample vace_e
rig => rig new
doctor --profile toaster => toaster
doctor --path {none}/deep => {none}/deep
doctor --rig no_such_rig => no_such_rig
doctor --rig {yaml} => {yaml}
doctor --rig nova2_sim --seconds 0 => --seconds
doctor --rig nova2_sim --seconds -3 => --seconds
doctor --rig nova2_sim --seconds 1e12 => --seconds
doctor --rig nova2_sim --seconds nan => --seconds
check => give an episode
check {none} => {none}
check {folder} => no episode below {folder}
check {hdf5} => {hdf5} => 1
check {empty} => {empty} => 1
check {link} => {link}
check {data} --pages -1 => --pages
check {data} --first -1 => --first
check {data} --first 1000000000000 => --first
check {data} --html {under}/page.html => {under}
check {data} --html {folder} => {folder}
check {data} --json {folder} => {folder}
check {data} --json {episode} => no report replaces an episode
check {data} --json {link} => {link}
check progress {none} {data} => {none}
check progress {onnx} {data} => {onnx}
check progress {bundle} {data} => act_hsa
recover => give a .part file
recover {none} => {none}
recompute-boxes {data} --rig {none} => not shipped
recompute-boxes {data} --rig {yaml} => {yaml}
recompute-boxes {none} --rig nova2_sim => {none}
recompute-boxes {data} --rig nova2_sim --out {under}/copies => {under}
recompute-boxes {data} --rig nova2_sim --out {text} => {text}
episodes => no such command
episodes lst {data} => did you mean 'ls'
episodes ls {none} => {none}
episodes ls {link} => {link}
episodes ls {data} --only colour=red => colour
episodes info {hdf5} => {hdf5}
episodes info {folder} => {folder}
episodes label {none} --success yes => {none}
episodes label {episode} --success perhaps => perhaps
episodes label {episode} => what to say
episodes delete {none} => {none}
episodes delete {text} => {text} => 1
episodes restore {none} => {none} => 1
episodes trim {episode} --first -5 --last 10 => --first
episodes trim {episode} --first 20 --last 10 => 20 => 1
episodes trim {episode} --first 0 --last 1000000 => 1000000 => 1
episodes trim {hdf5} --first 0 --last 3 => {hdf5} => 1
episodes split {episode} --at 0 => 0
episodes split {episode} --at -4 => -4
episodes split {episode} --at 1000000 => 1000000 => 1
episodes merge {episode} => two
episodes copy {data} --to {text} => {text}
episodes copy {data} --to {under}/new => {under}
episodes copy {none} --to {folder}/new => {none}
episodes dedupe {none} => {none}
view {none} => {none}
view {hdf5} => {hdf5}
view {folder} => {folder}
view {text} => {text}
view {pipe} => {pipe}
view {episode} --out {folder} => {folder}
view {episode} --out {episode} => no report replaces an episode
view {episode} --out {under}/page.html => {under}
view {data} --pages -2 => --pages
view {data} --rrd => {data}
view progress {onnx} {episode} => {onnx}
view progress {bundle} {episode} => act_hsa
view progress {none} {episode} => {none}
view progress {bundle} {none} => {none}
replay bundle {onnx} {episode} => {onnx}
replay bundle {none} {episode} => {none}
convert {none} {folder}/new => {none}
convert {folder} {folder}/new => {folder}
convert {text} {folder}/new => {text}
convert {data} {data} --to aloha => {data}
convert {data} {folder}/new --to hologram => hologram
convert {data} {folder}/new --from hologram => hologram
convert {data} {folder}/new --to => --to needs
convert {data} {folder} --to aloha => exists
convert {data} {under}/new --to aloha => {under}
convert {data} {episode}/new --to zarr => {episode}
convert {folder} {folder}/new --to aloha => {folder}
convert {hdf5} {folder}/new --from aloha => {hdf5}
convert vace_e {none} --out {folder}/new => {none}
convert vace_e {data} --out {under}/new => {under}
convert vace_e {data} --out {folder}/new --stride 0 => --stride
convert vace_e {data} --out {folder}/new --stride -2 => --stride
convert vace_e {data} --out {folder}/new --camera nose => nose
rig new --from-dataset {none} --out {folder}/new.yaml => {none}
rig new --from-dataset {folder} --out {folder}/new.yaml => {folder}
rig new --from-dataset {data} --out {text} => \\.yaml
rig new --from-dataset {data} --out {yaml} => exists
rig new --from-dataset {folder} --out {under}/new.yaml => {under}
bench juggling => juggling
bench core --json {folder} => {folder}
bench fk --json {under}/numbers.json => {under}
""")

ROS = _calls("""
up juggle => juggle
up record --rig {none} => not shipped
up record --rig {yaml} => {yaml}
up record --rig {folder} => {folder}
up record --rig nova2_sim speed => key=value
up record --rig nova2_sim colour=red => colour
up record --rig nova2_sim root={text} => {text}
up record --rig nova2_sim root={under}/data => {under}
up record --rig nova2_sim --with juggler => juggler
up record --rig nova2_sim --without juggler => juggler
up record --rig nova2_sim --remap /a => /a
up record --rig nova2_sim --namespace "a b" => a b
up policy bundle={none} => {none}
run {none} => {none}
run {onnx} => {onnx}
run {folder} => {folder}
run {bundle} --rig {none} => not shipped
run {bundle} nonsense => key=value
run {bundle} --rig ur5e => ur5e
run {progress_bundle} => progress
replay {none} => {none}
replay {hdf5} => {hdf5}
replay {folder} => {folder}
replay {episode} --speed 0 => --speed
replay {episode} --speed -1 => --speed
replay {episode} --speed 7 => --speed
replay {episode} --rig ur5e => ur5e
record begin => begin
record status --timeout 0 => --timeout
record status --timeout -1 => --timeout
record status --timeout 1e300 => --timeout
record start --task ../../etc => --task
record demonstrate --seed -1 => --seed
record stop --success --failure => --failure
record status --node "a b" => a b
teleop dance => dance
demo --output {text} => {text}
demo --output {under}/demo => {under}
""")

SIM = _calls("""
simulate --out {folder}/new --episodes 0 => --episodes
simulate --out {folder}/new --episodes -5 => --episodes
simulate --out {folder}/new --episodes 10000000000 => --episodes
simulate --out {folder}/new --seed -1 => --seed
simulate --out {folder}/new --seed 100000000000000000000 => --seed
simulate --out {text} --episodes 1 => {text}
simulate --out {under}/new --episodes 1 => {under}
simulate --out {folder}/new --rig ur5e => ur5e
simulate --out {folder}/new --rig {yaml} => {yaml}
simulate --out {folder}/new --task juggle => juggle
simulate --out {folder}/new --failures boredom => boredom
simulate videos --out {under}/new => {under}
simulate videos --out {folder}/new --episodes 0 => --episodes
simulate videos --out {folder}/new --stride 0 => --stride
simulate vace_e --out {under}/new => {under}
simulate vace_e --out {folder}/new --episodes -1 => --episodes
simulate vace_e --out {folder}/new --height 0 => --height
simulate alignment {under}/new => {under}
simulate alignment {folder}/new --config.train -1 => --config.train
simulate kinematics {under}/new => {under}
simulate kinematics {folder}/new --seed -1 => --seed
evaluate --bundle {none} => {none}
evaluate --bundle {onnx} => {onnx}
evaluate --bundle {folder} => {folder}
evaluate --bundle {progress_bundle} => progress
evaluate --bundle {bundle} --episodes 0 => --episodes
evaluate --bundle {bundle} --episodes -1 => --episodes
evaluate --bundle {bundle} --episodes 1000000000000 => --episodes
evaluate --bundle {bundle} --latency-ms -40 => --latency-ms
evaluate --bundle {bundle} --latency-ms nan => --latency-ms
evaluate --bundle {bundle} --latency-ms 1e9 => --latency-ms
evaluate --bundle {bundle} --task juggle => juggle
evaluate --bundle {bundle} --rig ur5e => ur5e
evaluate --bundle {bundle} --seed -1 => --seed
evaluate --bundle {bundle} --output {folder} => {folder}
evaluate --bundle {bundle} --output {under}/a.json => {under}
""")

CALIBRATION = _calls("""
calibrate dance => dance
calibrate check {none} => not shipped
calibrate check {yaml} => {yaml}
calibrate check nova2_sim --max-px -1 => --max-px
calibrate check nova2_sim --against {yaml} => {yaml}
calibrate check ur5e --urdf {none} --tip-link tool0 => {none}
calibrate check ur5e --urdf {text} --tip-link tool0 => {text}
calibrate check ur5e --urdf package://nothing/a.urdf --tip-link tool0 => package://nothing
calibrate session {text} => {text}
calibrate session {folder} --rig {none} => not shipped
calibrate session {under}/session --rig nova2_sim => {under}
calibrate board --out {under}/board => {under}
calibrate board --out {text} => {text}
calibrate board --out {folder}/board --square-mm 0 => square
calibrate board --out {folder}/board --columns 100000 => 300000 markers
calibrate board --out {folder}/board --square-mm -1 => square
calibrate intrinsics --camera wrist --images {none} => {none}
calibrate intrinsics --camera wrist --images {folder} => {folder}
calibrate handeye --rig nova2_sim --camera wrist --samples {text} => {text}
calibrate verify --rig nova2_sim --camera wrist --samples {none} => {none}
calibrate capture --session {folder} --camera nose => {folder}
""")

LEARNING = _calls("""
train => STR
train nothing => no such model
train act_hsa => --config
train act_hsa --config {none} => {none}
train act_hsa --config {folder} => {folder}
train act_hsa --config {yaml} => {yaml}
train act_hsa --config act_hsa_demo colour=red => colour
train act_hsa --config act_hsa_demo nonsense => key.path=value
train act_hsa --config act_hsa_demo train.steps=0 => train.steps
train act_hsa --config act_hsa_demo train.steps=-5 => train.steps
train act_hsa --config act_hsa_demo train.steps=many => train.steps
train act_hsa --config act_hsa_demo train.batch_size=0 => train.batch_size
train act_hsa --config act_hsa_demo train.batch_size=100000000 => train.batch_size
train act_hsa --config act_hsa_demo train.lr=-1 => train.lr
train act_hsa --config act_hsa_demo train.lr=nan => train.lr
train act_hsa --config act_hsa_demo train.seed=-1 => train.seed
train act_hsa --config act_hsa_demo data.datasets=[{none}] => {none}
train act_hsa --config act_hsa_demo data.datasets=[{folder}] => {folder}
train act_hsa --config act_hsa_demo data.datasets=[{data}] train.output={text} => {text}
train act_hsa --config act_hsa_demo data.datasets=[{data}] train.output={under}/run => {under}
train act_hsa --config act_hsa_demo data.datasets=[{data}] train.resume={none} => {none}
train act_hsa --config act_hsa_demo data.datasets=[{data}] train.resume={folder} => {folder}
train progress --config progress_demo data.datasets=[{none}] => runs/act_hsa
train progress --config progress_demo train.steps=-1 => train.steps
train alignment --dataset {none} => {none}
train alignment --dataset {folder} => {folder}
train alignment --dataset {text} => {text}
train alignment train.steps=0 => train.steps
train vace_e --config {none} => {none}
train vace_e --config vace_e_dev dataset_base_path={none} => {none}
train vace_e --config vace_e_dev --num-epochs -1 => num_epochs
train vace_e --config vace_e_dev --learning-rate -1 => learning_rate
export {none} --out {folder}/a.onnx => {none}
export {folder} --out {folder}/a.onnx => {folder}
export {text} --out {folder}/a.onnx => {text}
export {run} --out {folder} => {folder}
export {run} --out {under}/a.onnx => {under}
export --from-lerobot {folder} --rig nova2_sim --out {folder}/a.onnx => {folder}
export --from-act {none} --rig nova2_sim --out {folder}/a.onnx => {none}
export signals {none} --data {folder} --out {folder}/a.parquet => {none}
export signals {folder} --data {folder} --out {folder}/a.parquet => {folder}
evaluate alignment {none} => {none}
evaluate alignment {folder} => {folder}
evaluate alignment {folder} --gru-steps -1 => --gru-steps
evaluate progress {none} => {none}
evaluate progress {folder} => {folder}
evaluate progress {folder} --false-alarms 2 => --false-alarms
evaluate vace_e {none} => {none}
sample vace_e {none} --out {folder}/new => {none}
sample vace_e {folder} --out {folder}/new => {folder}
sample vace_e {folder} --out {folder}/new --num -1 => --num
view touch {none} --out {folder}/new.html => {none}
view alignment {none} --out {folder}/new => {none}
view alignment {folder} --out {folder}/new => {folder}
annotate {none} --out {folder}/new => {none}
annotate {folder} --out {folder}/new => {folder}
annotate {data} --out {text} => {text}
annotate {data} --out {folder}/new --port -1 => --port
annotate {data} --out {folder}/new --port 70000 => --port
annotate {data} --out {folder}/new --fps 0 => --fps
convert annotations {none} --from ms-tcn --to {folder}/new => {none}
convert annotations {folder} --from ms-tcn --to {folder}/new => {folder}
convert annotations {text} --from smoke --to {folder}/new => smoke
convert annotations {data} --from episodes --to {under}/new --fps 5 => {under}
convert annotations {data} --from episodes --to {folder}/new --fps 0 => fps
check vace_e {none} => {none}
check vace_e {folder} => {folder}
check labels {none} => {none}
doctor vace_e --config {none} => {none}
doctor vace_e --config {yaml} => {yaml}
""")
