/* SPDX-License-Identifier: Apache-2.0 */
/* Statically linked: no library can be preloaded into it. */
int main(void)
{
	return 0;
}
