-- Syncs of many SDK instances: each request is the next one of the next instance, with one lease on one budget.
local instances = tonumber(os.getenv("INSTANCES"))
local budgets = {}
for budget in string.gmatch(os.getenv("BUDGETS"), "%d+") do budgets[#budgets + 1] = budget end
local run = os.getenv("RUN")
local headers = {
  ["Authorization"] = "Bearer " .. os.getenv("KEY"),
  ["Content-Type"] = "application/json",
}
local instance, round = 0, 1

request = function()
  instance = instance + 1
  if instance > instances then instance, round = 1, round + 1 end
  local settled = round * 1000
  local body = string.format(
    '{"incarnation":"%s-0000-4000-8000-%012x","seq":%d,"sent_ms":1790000000000,"app":"bench","host":"h","pid":1,' ..
    '"sdk":"bench/1","config":{"etag":null,"refused":null},"leases":[{"number":1,"budgets":[%s],"seen":0,' ..
    '"settled":%d,"returned":0,"corrected":0,"held":0,"want":5000,"min_useful":1000,"denied":0,"final":false}]}',
    run, instance, round, budgets[instance % #budgets + 1], settled)
  return wrk.format("POST", wrk.path, headers, body)
end
