# shellcheck shell=bash
# Kernels of two processes run at the same time on one GPU under MPS alone. To be sourced: start_mps, stop_mps, and
# HAS_MPS, which is 1 only while a server has been seen. It is the script's own, and ends with it.
#
# Without a daemon CUDA goes on as if it had not been asked for MPS, so that a call that succeeds proves nothing: what
# counts is a server that the daemon knows while a process has memory of the GPU.
#
# PYTHON      the interpreter
# MPS_LOGS    an absolute path: the folder for what MPS writes

HAS_MPS=0

start_mps() {
  command -v nvidia-cuda-mps-control > /dev/null || {
    echo "# processes take turns on the GPU: there is no nvidia-cuda-mps-control"
    return 0
  }
  CUDA_MPS_PIPE_DIRECTORY=$(mktemp -d)
  CUDA_MPS_LOG_DIRECTORY=$MPS_LOGS
  export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
  mkdir -p "$MPS_LOGS"
  local problem="" status=0
  timeout 30 nvidia-cuda-mps-control -d > "$MPS_LOGS/start.log" 2>&1 || status=$?
  if [ "$status" != 0 ]; then
    problem="nvidia-cuda-mps-control -d ends with status $status"
  else
    problem=$(ask_for_server) || problem=${problem:-"no process gets memory of the GPU under it"}
  fi
  if [ -n "$problem" ]; then
    echo "# processes take turns on the GPU: $problem; what MPS says is in $MPS_LOGS"
    stop_mps
  else
    HAS_MPS=1
  fi
}

# Prints what is wrong, if anything.
ask_for_server() {
  timeout 60 "$PYTHON" - 2>> "$MPS_LOGS/start.log" << 'END'
import subprocess
import ringtree as rt

held = rt.cuda.empty(1)  # until the daemon has been asked
asked = ["timeout", "10", "nvidia-cuda-mps-control"]
answer = subprocess.run(asked, input="get_server_list\n", capture_output=True, text=True, check=False)
if not any(word.isdecimal() for word in answer.stdout.split()):
    print("MPS's daemon knows of no server")
END
}

stop_mps() {
  HAS_MPS=0
  [ -n "${CUDA_MPS_PIPE_DIRECTORY:-}" ] || return 0
  echo quit | timeout 10 nvidia-cuda-mps-control > /dev/null 2>&1 || true
  rm -rf "$CUDA_MPS_PIPE_DIRECTORY"
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
}
