-- Arguments after `--`: the method, a file with the body (or ""), a file with one request in each line (or "").
-- A line has a path and headers of its own (`Name: value`), with tabs between them. With such a file each of its
-- requests is sent once, and the run ends with the response to the last one. Prints the results as one line of JSON.

local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int signal);")
local SIGINT = 2
local NEVER = 1e9 -- milliseconds

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function request_of(line)
  local path, rest = line:match("^([^\t]*)(.*)$")
  local headers = {}
  for name, value in pairs(wrk.headers) do
    headers[name] = value
  end
  for name, value in rest:gmatch("\t([^:\t]*): ([^\t]*)") do
    headers[name] = value
  end
  return wrk.format(nil, path, headers)
end

local function send_once(requests)
  local last, made, taken, answered = #requests, 0, 0, 0
  -- wrk asks for a delay before each request. A connection for which there is no request left never sends again.
  delay = function()
    taken = taken + 1
    return taken <= last and 0 or NEVER
  end
  -- wrk makes one request before the run, to look at it. That one is not sent.
  request = function()
    local number = math.min(math.max(made, 1), last)
    made = made + 1
    return requests[number]
  end
  response = function()
    answered = answered + 1
    if answered == last then
      wrk.thread:stop()
      -- Ctrl-C ends the sleep of wrk's main thread, which otherwise lasts for the whole time of the run.
      ffi.C.kill(ffi.C.getpid(), SIGINT)
    end
  end
end

function init(args)
  wrk.method = args[1]
  if args[2] ~= "" then
    wrk.body = read(args[2])
  end
  if args[3] ~= "" then
    local requests = {}
    for line in io.lines(args[3]) do
      requests[#requests + 1] = request_of(line)
    end
    send_once(requests)
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end
