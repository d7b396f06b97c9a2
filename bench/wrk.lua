-- Arguments after `--`: the method, a file with the body (or ""), a file with one path in each line (or "").
-- With paths, each request takes the next one. Prints the results as one line of JSON.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  wrk.method = args[1]
  if args[2] ~= "" then
    wrk.body = read(args[2])
  end
  if args[3] ~= "" then
    local paths, number = {}, 0
    for path in io.lines(args[3]) do
      paths[#paths + 1] = path
    end
    request = function()
      number = number % #paths + 1
      return wrk.format(nil, paths[number])
    end
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
