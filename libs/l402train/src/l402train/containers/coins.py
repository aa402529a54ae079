"""Coins for a wallet on a simnet whose miner belongs to nobody: btcd mines to a script that anybody can spend.

btcd takes the address that it mines to when it starts, before there is a wallet to name one. So it mines to P2SH of OP_TRUE
(BIP 16), and a transaction that needs no signature hands the coins on.
"""

from typing import Final

from l402train.lightning.btcd import FIRST_BLOCKS, Btcd, address_of_script

OP_TRUE: Final = b"\x51"
ADDRESS: Final = address_of_script(OP_TRUE)
"""What btcd is told to mine to."""
COINBASE_SAT: Final = 5_000_000_000
MATURITY: Final = 100
AT_ONCE: Final = 50
COINS: Final = 4
"""Coinbases that are handed on: 200 BTC."""
FEE_SAT: Final = 10_000
_NO_SCRIPT, _SCRIPT = b"\x00", bytes([2, 1]) + OP_TRUE


def mine_first(btcd: Btcd) -> bool:
    """Blocks until coins can be spent; False where there were enough. Raises OSError, RuntimeError."""
    height = int(btcd.call("getblockcount"))
    for mined in range(height, FIRST_BLOCKS, AT_ONCE):
        btcd.mine(min(AT_ONCE, FIRST_BLOCKS - mined))
    return height < FIRST_BLOCKS


def give(btcd: Btcd, address: str) -> str:
    """Hand the first coins on to an address, in one block; the transaction's id. Raises OSError, RuntimeError."""
    spent = [_coinbase(btcd, height) for height in range(1, COINS + 1)]
    inputs = [{"txid": txid, "vout": 0} for txid in spent]
    amount = (COINS * COINBASE_SAT - FEE_SAT) / 100_000_000
    unsigned = bytes.fromhex(btcd.call("createrawtransaction", inputs, {address: amount}))
    told: str = btcd.call("sendrawtransaction", with_scripts(unsigned, COINS).hex())
    btcd.mine(1)
    return told


def _coinbase(btcd: Btcd, height: int) -> str:
    block = btcd.call("getblock", btcd.call("getblockhash", height), 1)
    txid: str = block["tx"][0]
    return txid


def with_scripts(transaction: bytes, inputs: int) -> bytes:
    """The transaction (legacy serialization) with the script of ADDRESS in each of its empty inputs."""
    head, rest = transaction[:5], transaction[5:]  # version, number of inputs
    done = bytearray(head)
    for _ in range(inputs):
        outpoint, script, sequence = rest[:36], rest[36:37], rest[37:41]
        if script != _NO_SCRIPT:
            raise ValueError("an input has a script already")
        done += outpoint + _SCRIPT + sequence
        rest = rest[41:]
    return bytes(done + rest)
