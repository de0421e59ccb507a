"""The machine around a run: processes, files, servers, and code that users bring."""
