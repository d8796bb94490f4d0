-- Syncs of many SDK instances: each request is the next one of the next instance, with leases on budgets and rows of usage.
local instances = tonumber(os.getenv("INSTANCES"))
local leases, rows = tonumber(os.getenv("LEASES")), tonumber(os.getenv("ROWS"))
local budgets = {}
for budget in string.gmatch(os.getenv("BUDGETS"), "%d+") do budgets[#budgets + 1] = budget end
local run = os.getenv("RUN")
local headers = {
  ["Authorization"] = "Bearer " .. os.getenv("KEY"),
  ["Content-Type"] = "application/json",
}
local instance, round = 0, tonumber(os.getenv("ROUND"))

-- Many instances that sync now and then, not a few as fast as they can: requests are due at an even pace, whoever sends them.
-- A connection that is free before its request is due waits for it.
local per_s = tonumber(os.getenv("PER_S"))
if per_s > 0 then
  local ffi = require("ffi")
  ffi.cdef[[typedef struct { long s; long ns; } moment; int clock_gettime(int clock, moment *now);]]
  local moment, due_ms = ffi.new("moment"), nil
  delay = function()
    ffi.C.clock_gettime(1, moment)
    local now_ms = tonumber(moment.s) * 1000 + tonumber(moment.ns) / 1000000
    due_ms = (due_ms or now_ms) + 1000 / per_s
    return math.max(0, math.floor(due_ms - now_ms))
  end
end

local usage = {}
for lease = 1, leases do
  for row = 1, rows do
    usage[#usage + 1] = string.format(
      '{"tenant":"","route":"route-%d","model":"model-%d","category":"","calls":3,"errors":0,"refused":0,"fallbacks":0,' ..
      '"retries":0,"input_tokens":900,"cached_input_tokens":0,"output_tokens":310,"cost_nusd":333}', lease, row)
  end
end
usage = table.concat(usage, ",")

local function lease_of(number)
  return string.format(
    '{"number":%d,"budgets":[%s],"seen":0,"settled":%d,"returned":0,"corrected":0,"held":0,"want":5000,"min_useful":1000,' ..
    '"denied":0,"waiting":0,"final":false}', number, budgets[(instance * leases + number) % #budgets + 1], round * 1000)
end

request = function()
  instance = instance + 1
  if instance > instances then instance, round = 1, round + 1 end
  local lines = {}
  for number = 1, leases do lines[number] = lease_of(number) end
  local now = os.time() * 1000
  local windows = ""
  if rows > 0 then
    windows = string.format(',"windows":[{"number":%d,"starts_ms":%d,"rows":[%s]}]', round, now, usage)
  end
  local body = string.format(
    '{"incarnation":"%s-0000-4000-8000-%012x","seq":%d,"sent_ms":%d,"app":"bench","host":"h","pid":1,' ..
    '"sdk":"bench/1","config":{"etag":null,"refused":null},"leases":[%s]%s}',
    run, instance, round, now, table.concat(lines, ","), windows)
  return wrk.format("POST", wrk.path, headers, body)
end
