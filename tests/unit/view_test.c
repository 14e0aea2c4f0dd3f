/* SPDX-License-Identifier: Apache-2.0 */
/* policy/view.c: the figures a tenant is shown. */
#include "policy/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_figures(void **state)
{
	static const struct {
		enum view_figure figure;
		uint64_t driver, limit, used, shown;
	} cases[] = {
		{ VIEW_OTHER, 77, 10, 5, 77 },
		{ VIEW_NOTHING, 77, 10, 5, 0 },
		{ VIEW_TOTAL, 100, 10, 5, 10 },
		{ VIEW_TOTAL, 8, 10, 5, 8 },		/* never more than the card */
		{ VIEW_TOTAL, 100, 0, 0, 0 },		/* not the slice's */
		{ VIEW_FREE, 100, 10, 4, 6 },
		{ VIEW_FREE, 3, 10, 4, 3 },		/* the card has less left than the slice */
		{ VIEW_FREE, 100, 10, 10, 0 },
		{ VIEW_FREE, 100, 10, 12, 0 },		/* over the limit */
		{ VIEW_FREE, 0, 10, 0, 0 },
		{ VIEW_FREE, UINT64_MAX, UINT64_MAX, 0, UINT64_MAX },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(view_memory(cases[i].figure, cases[i].driver, cases[i].limit, cases[i].used),
				 cases[i].shown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
