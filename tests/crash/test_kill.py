"""A short kill campaign; `make kill-campaign` runs the long one."""
import unittest

import kill_campaign


class Kill(unittest.TestCase):
    def test_a_run_that_is_killed_eight_times_ends_as_if_it_never_was(self):
        figures = kill_campaign.campaign(jobs=300, kills=8)
        self.assertGreaterEqual(figures["in_flight_median"], 20)
        self.assertGreater(figures["in_doubt"], 0)


if __name__ == "__main__":
    unittest.main()
