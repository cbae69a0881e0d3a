"""native.py - The engine's tokenizer and cut (native.c), for Python.

    make train-native        builds build/train/native.so
"""
import ctypes, os

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.environ.get("CAIRN_TRAIN_LIBRARY", HERE + "/../../build/train/native.so")


class Text:
    """One tokenizer; not to be shared between threads."""

    def __init__(self, folder, file_role=1):
        lib = self.lib = ctypes.CDLL(LIBRARY)
        p, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        lib.cn_train_open.restype = p
        lib.cn_train_error.restype = ctypes.c_char_p
        lib.cn_train_error.argtypes = [p]
        lib.cn_train_encode.restype = i64
        lib.cn_train_encode.argtypes = [p, ctypes.c_char_p, i64, p]
        lib.cn_train_cut.argtypes = [p, i32, ctypes.c_char_p, ctypes.c_char_p, i64]
        lib.cn_train_document.argtypes = [p, i32, p, p]
        lib.cn_train_decode.restype = i64
        lib.cn_train_decode.argtypes = [p, p, i64, ctypes.c_char_p, i64]
        self.file_role = file_role
        self.handle = lib.cn_train_open(os.fsencode(folder))
        if not self.handle:
            raise OSError("no tokenizer in " + folder)

    def error(self):
        return self.lib.cn_train_error(self.handle).decode(errors="replace")

    def encode(self, text):
        """-> list of token ids of plain text"""
        data = text.encode()
        token = ctypes.POINTER(ctypes.c_int32)()
        n = self.lib.cn_train_encode(self.handle, data, len(data), ctypes.byref(token))
        if n < 0:
            raise ValueError(self.error())
        return token[:n]

    def cut(self, path, text):
        """-> [(tokens, header_tokens, text of the piece, first line)] as the engine cuts a file"""
        data, out = text.encode(), []
        n = self.lib.cn_train_cut(self.handle, self.file_role, path.encode(), data, len(data))
        if n < 0:
            raise ValueError(self.error())
        token, place = ctypes.POINTER(ctypes.c_int32)(), (ctypes.c_int64 * 4)()
        for i in range(n):
            m = self.lib.cn_train_document(self.handle, i, ctypes.byref(token), place)
            begin, end, line, header = place
            out.append((token[:m], header, data[begin:end].decode(errors="replace"), line))
        return out

    def decode(self, tokens):
        """-> text; special tokens as they are written"""
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        room = 64 * len(tokens) + 64
        out = ctypes.create_string_buffer(room)
        n = self.lib.cn_train_decode(self.handle, ids, len(tokens), out, room)
        return out.raw[:n].decode(errors="replace")
