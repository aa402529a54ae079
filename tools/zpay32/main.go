// Command zpay32 decodes BOLT11 invoices with lnd's own zpay32 package, for any network.
//
// lnd's DecodePayReq calls the same package but refuses foreign networks; this program does not need a node.
// It reads lines "NETWORK INVOICE" from standard input and answers each with one line of JSON, in order:
// either {"error": "..."} or the decoded fields. Bytes are lower-case hex.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/btcsuite/btcd/chaincfg"
	"github.com/lightningnetwork/lnd/lnwire"
	"github.com/lightningnetwork/lnd/zpay32"
)

// maxLine bounds one line of input; lnd itself refuses invoices beyond 7,089 characters.
const maxLine = 1 << 20

type hop struct {
	Pubkey          string `json:"pubkey"`
	ChannelID       uint64 `json:"channel_id"`
	FeeBaseMsat     uint32 `json:"fee_base_msat"`
	FeePpm          uint32 `json:"fee_ppm"`
	CLTVExpiryDelta uint16 `json:"cltv_expiry_delta"`
}

type answer struct {
	Error           string   `json:"error,omitempty"`
	PaymentHash     string   `json:"payment_hash,omitempty"`
	PaymentAddr     string   `json:"payment_addr,omitempty"`
	AmountMsat      *uint64  `json:"amount_msat"`
	ExpirySeconds   int64    `json:"expiry_s"`
	MinFinalCLTV    uint64   `json:"min_final_cltv"`
	Payee           string   `json:"payee,omitempty"`
	Timestamp       int64    `json:"timestamp"`
	Description     *string  `json:"description"`
	DescriptionHash string   `json:"description_hash,omitempty"`
	FallbackAddr    string   `json:"fallback_addr,omitempty"`
	Metadata        string   `json:"metadata,omitempty"`
	Features        []uint16 `json:"features"`
	RouteHints      [][]hop  `json:"route_hints"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	out := bufio.NewWriter(os.Stdout)
	answers := json.NewEncoder(out)

	for lines.Scan() {
		network, text, _ := strings.Cut(lines.Text(), " ")
		// Flushed line by line: the other side may wait for this answer before it asks again.
		if err := errors.Join(answers.Encode(decode(network, text)), out.Flush()); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "zpay32:", err)
	os.Exit(1)
}

// decode mirrors what lnd's RPC server does: the network's parameters, then zpay32 without options.
func decode(network, text string) answer {
	params, err := paramsOf(network)
	if err != nil {
		return answer{Error: err.Error()}
	}
	invoice, err := zpay32.Decode(text, params)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return show(invoice)
}

func paramsOf(network string) (*chaincfg.Params, error) {
	switch network {
	case "mainnet":
		return &chaincfg.MainNetParams, nil
	case "testnet":
		return &chaincfg.TestNet3Params, nil
	case "regtest":
		return &chaincfg.RegressionNetParams, nil
	case "simnet":
		return &chaincfg.SimNetParams, nil
	case "signet":
		return &chaincfg.SigNetParams, nil
	}
	return nil, fmt.Errorf("unknown network %q", network)
}

func show(invoice *zpay32.Invoice) answer {
	result := answer{
		ExpirySeconds: int64(invoice.Expiry().Seconds()),
		MinFinalCLTV:  invoice.MinFinalCLTVExpiry(),
		Timestamp:     invoice.Timestamp.Unix(),
		Description:   invoice.Description,
		Metadata:      hex.EncodeToString(invoice.Metadata),
		Features:      bits(invoice.Features),
		RouteHints:    hints(invoice),
	}
	if invoice.PaymentHash != nil {
		result.PaymentHash = hex.EncodeToString(invoice.PaymentHash[:])
	}
	invoice.PaymentAddr.WhenSome(func(addr [32]byte) {
		result.PaymentAddr = hex.EncodeToString(addr[:])
	})
	if invoice.MilliSat != nil {
		amount := uint64(*invoice.MilliSat)
		result.AmountMsat = &amount
	}
	if invoice.Destination != nil {
		result.Payee = hex.EncodeToString(invoice.Destination.SerializeCompressed())
	}
	if invoice.DescriptionHash != nil {
		result.DescriptionHash = hex.EncodeToString(invoice.DescriptionHash[:])
	}
	if invoice.FallbackAddr != nil {
		result.FallbackAddr = invoice.FallbackAddr.EncodeAddress()
	}
	return result
}

func bits(features *lnwire.FeatureVector) []uint16 {
	found := []uint16{}
	if features == nil {
		return found
	}
	for bit := range features.Features() {
		found = append(found, uint16(bit))
	}
	sort.Slice(found, func(i, j int) bool { return found[i] < found[j] })
	return found
}

func hints(invoice *zpay32.Invoice) [][]hop {
	routes := [][]hop{}
	for _, route := range invoice.RouteHints {
		hops := []hop{}
		for _, h := range route {
			hops = append(hops, hop{
				Pubkey:          hex.EncodeToString(h.NodeID.SerializeCompressed()),
				ChannelID:       h.ChannelID,
				FeeBaseMsat:     h.FeeBaseMSat,
				FeePpm:          h.FeeProportionalMillionths,
				CLTVExpiryDelta: h.CLTVExpiryDelta,
			})
		}
		routes = append(routes, hops)
	}
	return routes
}
