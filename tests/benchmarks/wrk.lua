-- Send the requests in the table `events` in turn, and print the result as JSON.
local requests, turn = {}, 0
init = function()
    for i, event in ipairs(events) do requests[i] = wrk.format("POST", event.path, event.headers, event.body) end
end
request = function()
    turn = turn % #requests + 1
    return requests[turn]
end
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format('\n{"events": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
