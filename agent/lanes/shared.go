package lanes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/dubway/dubway/internal/lane"
)

// shared is the memory of the programs, as it is given to a proxy.
type shared struct {
	number uint64 // by which a proxy knows it again
	sizes  lane.Sizes
	files  []*os.File
	memory *lane.Memory
}

func share(m Memory) (*shared, error) {
	files, err := m.Files()
	if err != nil {
		return nil, err
	}
	s := &shared{sizes: m.Sizes(), files: files}
	if s.memory, err = lane.Open(files, s.sizes); err == nil {
		s.number, err = number(files[lane.FileLanes])
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *shared) close() error {
	var errs []error
	if s.memory != nil {
		errs = append(errs, s.memory.Close())
	}
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// inUse counts the lanes that a proxy has in it.
func (s *shared) inUse() (n int) {
	for i := range s.memory.Lanes {
		if s.memory.Taken(uint32(i)) {
			n++
		}
	}
	return n
}

// number is a map's id, which the kernel gives to no other until it starts anew; of a file
// that is no map, which only tests have, that of its inode.
func number(f *os.File) (uint64, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return 0, fmt.Errorf("tell lanes' maps apart: %w", err)
	}
	for _, key := range []string{"\nmap_id:", "\nino:"} {
		_, rest, ok := bytes.Cut(info, []byte(key))
		if !ok {
			continue
		}
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		id, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("tell lanes' maps apart: %w", err)
		}
		return id, nil
	}
	return 0, errors.New("tell lanes' maps apart: the kernel does not say their ids")
}
