package lane

import "testing"

func TestBehind(t *testing.T) {
	const limit = 1000
	for name, test := range map[string]struct {
		resume, end uint64
		read        uint32
		n           int
		ok          bool
	}{
		"all was read and said":             {At(500), At(500), 500, 0, true},
		"nothing was read ever since":       {At(500), 0, 500, 0, true},
		"whole frames, not said yet":        {At(500), At(700), 700, 0, true},
		"within a frame":                    {At(500), At(900), 700, 200, true},
		"within a frame, over the top":      {At(0xffffff00), At(100), 0xffffff80, 228, true},
		"within a header":                   {At(500), At(600), 605, 0, false},
		"within the first header":           {At(500), 0, 505, 0, false},
		"beyond what a frame may have":      {At(500), At(500 + limit + 300), 600, 0, false},
		"resume is unknown, the end is not": {0, At(800), 700, 100, true},
	} {
		if n, ok := Behind(test.resume, test.end, test.read, limit); ok != test.ok || ok && n != test.n {
			t.Errorf("%s: %d, %t", name, n, ok)
		}
	}
}
