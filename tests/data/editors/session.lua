-- Neovim without a window, as a person would use it: open, read, hover, apply the fix, save. Writes what it saw to $SEEN.
vim.o.swapfile = false
vim.cmd("edit model.py")
local client = vim.lsp.start_client({ name = "vaelint", cmd = { vim.env.VAELINT, "server" }, root_dir = vim.fn.getcwd() })
vim.lsp.buf_attach_client(0, client)

local function told(ready)
  vim.wait(60000, function() return ready(vim.diagnostic.get(0)) end, 50)
  return vim.diagnostic.get(0)
end

local seen = {}
local function fixed(found) return #found > 0 and found[1].user_data.lsp.data and found[1].user_data.lsp.data.fix end
seen.before = vim.tbl_map(function(d) return { code = d.code or d.user_data.lsp.code, line = d.lnum + 1, message = d.message } end, told(fixed))
vim.api.nvim_win_set_cursor(0, { seen.before[1].line, 8 })
local hover = vim.lsp.buf_request_sync(0, "textDocument/hover", vim.lsp.util.make_position_params(), 10000)
seen.hover = hover[client].result.contents.value
local params = vim.lsp.util.make_range_params()
params.context = { diagnostics = {} }
local actions = vim.lsp.buf_request_sync(0, "textDocument/codeAction", params, 10000)[client].result
seen.actions = vim.tbl_map(function(a) return a.title end, actions)
vim.lsp.util.apply_workspace_edit(actions[1].edit, vim.lsp.get_client_by_id(client).offset_encoding)
seen.line = vim.api.nvim_buf_get_lines(0, seen.before[1].line - 1, seen.before[1].line, true)[1]
vim.cmd("write")
seen.after = #told(function(found) return #found == 0 end)
vim.fn.writefile({ vim.fn.json_encode(seen) }, vim.env.SEEN)
vim.lsp.stop_client(client)
vim.wait(5000, function() return vim.lsp.client_is_stopped(client) end, 50)

