"""llama.cpp as the scripts here use it. Not here: what is compared."""
import ctypes
import sys
import time

try:
    import llama_cpp as lib
except ImportError as error:
    sys.exit(f"SKIPPED: no llama-cpp-python here ({error})")

_quiet = lib.llama_log_callback(lambda level, text, data: None)
lib.llama_log_set(_quiet, ctypes.c_void_p(0))
lib.llama_backend_init()


class Peer:
    """A model in llama.cpp; `extra` lets it repack weights for this processor."""

    def __init__(self, path, threads, extra=True, positions=512):
        model = lib.llama_model_default_params()
        model.use_extra_bufts = extra
        self.model = lib.llama_model_load_from_file(str(path).encode(), model)
        context = lib.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch = positions, 512, 512
        context.n_threads = context.n_threads_batch = threads
        self.context = lib.llama_init_from_model(self.model, context)
        self.threads = threads

    def _now(self):
        return time.thread_time() if self.threads == 1 else time.perf_counter()

    def evaluate(self, tokens):
        array = (lib.llama_token * len(tokens))(*tokens)
        assert lib.llama_decode(self.context, lib.llama_batch_get_one(array, len(tokens))) == 0
        lib.llama_synchronize(self.context)

    def clear(self):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def logits(self):
        count = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        return lib.llama_get_logits_ith(self.context, -1)[:count]

    def round(self):
        """Tokens per second of a prefill of 128 and a decode of 64, as `examples/speed.rs` measures them."""
        self.clear()
        start = self._now()
        self.evaluate([3 + i * 37 % 250 for i in range(128)])
        prefill = 128 / (self._now() - start)
        start = self._now()
        for i in range(64):
            self.evaluate([3 + i])
        return {"prefill": prefill, "decode": 64 / (self._now() - start)}

    def close(self):
        lib.llama_free(self.context)
        lib.llama_model_free(self.model)
