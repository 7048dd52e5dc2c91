// Recorded work, and points in time.
#include "device.h"

void Device::BeginCapture(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  // Relaxed: memory may be allocated meanwhile.
  isRecording_ = !failed(info.Env(), driver.StreamBeginCapture(stream_, 2), "cuStreamBeginCapture");
}

Napi::Value Device::EndCapture(const Napi::CallbackInfo& info) {
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  if (!enter(info.Env())) return info.Env().Undefined();
  isRecording_ = false;
  if (failed(info.Env(), driver.StreamEndCapture(stream_, &graph), "cuStreamEndCapture")) return info.Env().Undefined();
  const CUresult result = driver.GraphInstantiate(&exec, graph, 0);
  driver.GraphDestroy(graph);
  if (failed(info.Env(), result, "cuGraphInstantiate")) return info.Env().Undefined();
  graphs_.push_back(exec);
  return Napi::Number::New(info.Env(), graphs_.size() - 1);
}

void Device::LaunchGraph(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  failed(info.Env(), driver.GraphLaunch(graphs_.at(natural(info[0])), stream_), "cuGraphLaunch");
}

void Device::DestroyGraph(const Napi::CallbackInfo& info) {
  if (!enter(info.Env())) return;
  CUgraphExec& exec = graphs_.at(natural(info[0]));
  if (exec != nullptr) driver.GraphExecDestroy(exec);
  exec = nullptr;
}

// Marks a point of the stream for `elapsed`.
Napi::Value Device::Record(const Napi::CallbackInfo& info) {
  CUevent event = nullptr;
  if (!enter(info.Env())) return info.Env().Undefined();
  if (failed(info.Env(), driver.EventCreate(&event, 0), "cuEventCreate")) return info.Env().Undefined();
  if (failed(info.Env(), driver.EventRecord(event, stream_), "cuEventRecord")) return info.Env().Undefined();
  events_.push_back(event);
  return Napi::Number::New(info.Env(), events_.size() - 1);
}

// Milliseconds between two recorded points that have been reached.
Napi::Value Device::Elapsed(const Napi::CallbackInfo& info) {
  float ms = 0;
  if (!enter(info.Env())) return info.Env().Undefined();
  if (failed(info.Env(), driver.EventElapsedTime(&ms, events_.at(natural(info[0])), events_.at(natural(info[1]))), "cuEventElapsedTime"))
    return info.Env().Undefined();
  return Napi::Number::New(info.Env(), ms);
}
